#include "version.h"

/* Here and not in the header, so that another commit compiles this file alone. */
const char *source_amqp_commit(void) { return SOURCE_AMQP_COMMIT; }
