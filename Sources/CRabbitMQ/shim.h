// rabbitmq-c as Debian ships it; the old header names exist in every version.
#include <amqp.h>
#include <amqp_framing.h>
