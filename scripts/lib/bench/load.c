// Publishes the benchmark's messages: persistent, JSON of a given size, five properties and two headers.
//
//   load EXCHANGE COUNT SIZE [RATE]
//
// With RATE, so many a second, evenly. Returns when the broker has confirmed all of them.
#include "wire.h"

// A JSON object of exactly `size` bytes, at least 80: an order with as many lines as fit.
static void make_body(char *body, int size, int number) {
  int at = sprintf(body, "{\"order\":%d,\"total\":%d.%02d,\"lines\":[", 1000000 + number, number % 9973, number % 90 + 10);
  for (int line = 0; at + 80 < size; line++)
    at += sprintf(body + at, "%s{\"sku\":\"A-%04d\",\"quantity\":%d,\"price\":%d.9}", line ? "," : "", line % 10000,
                  line % 9 + 1, line % 97 + 1);
  at += sprintf(body + at, "],\"note\":\"");
  while (at < size - 2) body[at++] = 'x';
  memcpy(body + at, "\"}", 2);
}

static void wait_confirmed(amqp_connection_state_t connection, uint64_t through) {
  static uint64_t confirmed = 0;
  while (confirmed < through) {
    amqp_frame_t frame;
    amqp_maybe_release_buffers(connection);
    if (amqp_simple_wait_frame(connection, &frame) != 0) die("the connection broke");
    if (frame.frame_type != AMQP_FRAME_METHOD) continue;
    if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) die("unexpected method %x", frame.payload.method.id);
    confirmed = ((amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag;
  }
}

int main(int count, char **arguments) {
  if (count < 4) die("usage: load EXCHANGE COUNT SIZE [RATE]");
  const char *exchange = arguments[1];
  int messages = atoi(arguments[2]), size = atoi(arguments[3]), rate = count > 4 ? atoi(arguments[4]) : 0;
  if (size < 120) die("SIZE must be at least 120");
  amqp_connection_state_t connection = connect_to_broker();
  amqp_confirm_select(connection, 1);
  ok(connection, "confirm.select");
  char *body = malloc(size + 128);
  char identity[16];
  amqp_table_entry_t headers[2] = {
      {amqp_cstring_bytes("attempt"), {AMQP_FIELD_KIND_I32, {.i32 = 1}}},
      {amqp_cstring_bytes("trace"), {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("4bf92f3577b34da6a3ce929d")}}}};
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_APP_ID_FLAG,
      .content_type = amqp_cstring_bytes("application/json"), .headers = {2, headers}, .delivery_mode = 2,
      .timestamp = 1764000000, .app_id = amqp_cstring_bytes("shop")};
  int64_t start = nanoseconds(CLOCK_MONOTONIC);
  for (int number = 1; number <= messages; number++) {
    if (rate > 0) {
      int64_t due = start + (int64_t)number * 1000000000 / rate;
      struct timespec time = {due / 1000000000, due % 1000000000};
      while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {}
    }
    make_body(body, size, number);
    sprintf(identity, "o-%07d", number);
    properties.message_id = amqp_cstring_bytes(identity);
    amqp_bytes_t bytes = {(size_t)size, body};
    int status = amqp_basic_publish(connection, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes("orders.new"), 0, 0,
                                    &properties, bytes);
    if (status != 0) die("publishing: %s", amqp_error_string2(status));
    // Confirmations that no one reads would fill the socket.
    if (number % 1000 == 0) wait_confirmed(connection, number - 1000);
  }
  wait_confirmed(connection, messages);
  amqp_connection_close(connection, 200);
  return 0;
}
