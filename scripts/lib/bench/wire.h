// What the C programs of the benchmark share: a connection with one channel, a clock, and how to end with a reason.
#pragma once
#include <errno.h>
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static inline int64_t nanoseconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline const char *setting(const char *name) {
  const char *value = getenv(name);
  if (value == NULL) die("%s is not set", name);
  return value;
}

static inline void ok(amqp_connection_state_t connection, const char *what) {
  amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) die("%s failed", what);
}

// Connects to the broker of scripts/broker and opens channel 1.
static inline amqp_connection_state_t connect_to_broker(void) {
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  if (amqp_socket_open(socket, setting("SOURCE_AMQP_TEST_HOST"), atoi(setting("SOURCE_AMQP_TEST_PORT"))) != 0)
    die("no connection to the broker");
  amqp_rpc_reply_t reply = amqp_login(
      connection, setting("SOURCE_AMQP_TEST_VHOST"), 0, 131072, 0, AMQP_SASL_METHOD_PLAIN,
      setting("SOURCE_AMQP_TEST_USER"), setting("SOURCE_AMQP_TEST_PASSWORD"));
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) die("the broker refused the login");
  amqp_channel_open(connection, 1);
  ok(connection, "opening a channel");
  return connection;
}
