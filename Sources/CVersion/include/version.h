/// The commit that the program was built from, in hexadecimal digits; empty if that is not known.
const char *source_amqp_commit(void);
