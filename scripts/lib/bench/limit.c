// The physical limit: takes messages off a queue with rabbitmq-c as fast as it can, and discards them.
//
//   limit QUEUE COUNT PREFETCH
//
// Raw frames instead of amqp_consume_message: no copy, no allocation a message. One ack for half a prefetch window.
// Prints one JSON object to stderr: messages, and seconds from the first delivery to the last.
#include "wire.h"

int main(int count, char **arguments) {
  if (count < 4) die("usage: limit QUEUE COUNT PREFETCH");
  uint64_t messages = strtoull(arguments[2], NULL, 10);
  int prefetch = atoi(arguments[3]);
  uint64_t step = prefetch > 1 ? prefetch / 2 : 1, bytes = 0, tag = 0, missing = 0;
  amqp_connection_state_t connection = connect_to_broker();
  amqp_basic_qos(connection, 1, 0, prefetch, 0);
  ok(connection, "basic.qos");
  amqp_basic_consume(connection, 1, amqp_cstring_bytes(arguments[1]), amqp_empty_bytes, 0, 0, 1, amqp_empty_table);
  ok(connection, "basic.consume");
  int64_t first = 0, last = 0;
  while (tag < messages || missing > 0) {
    amqp_frame_t frame;
    amqp_maybe_release_buffers(connection);
    if (amqp_simple_wait_frame(connection, &frame) != 0) die("the connection broke");
    switch (frame.frame_type) {
    case AMQP_FRAME_METHOD:
      if (frame.payload.method.id != AMQP_BASIC_DELIVER_METHOD) die("unexpected method %x", frame.payload.method.id);
      if (first == 0) first = nanoseconds(CLOCK_MONOTONIC);
      tag = ((amqp_basic_deliver_t *)frame.payload.method.decoded)->delivery_tag;
      break;
    case AMQP_FRAME_HEADER: missing = frame.payload.properties.body_size; break;
    case AMQP_FRAME_BODY:
      missing -= frame.payload.body_fragment.len;
      bytes += frame.payload.body_fragment.len;
      break;
    default: continue;
    }
    if (frame.frame_type != AMQP_FRAME_METHOD && missing == 0 && (tag % step == 0 || tag == messages))
      amqp_basic_ack(connection, 1, tag, 1);
  }
  last = nanoseconds(CLOCK_MONOTONIC);
  fprintf(stderr, "{\"messages\": %lu, \"body_bytes\": %lu, \"seconds\": %.6f}\n", tag, bytes, (last - first) / 1e9);
  amqp_connection_close(connection, 200);
  return 0;
}
