// Stands between a consumer and the broker, and measures how long after a delivery its acknowledgement comes.
//
//   tap BROKER_PORT
//
// Prints the port that it listens on (loopback only), takes one connection, and ends with it. A delivery counts from the
// moment that its last byte was handed to the consumer's socket. Prints one JSON object to stderr. The slowest hundredth
// is looked at, so the few deliveries that are acknowledged only at the end of a session do not show.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 8 << 20, MOST = 8 << 20 };

static int64_t delivered[MOST];
static uint32_t waited[MOST];
static uint64_t newest, acknowledged, measured;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static uint64_t number(const uint8_t *bytes, int width) {
  uint64_t value = 0;
  for (int index = 0; index < width; index++) value = value << 8 | bytes[index];
  return value;
}

// One direction of the connection, with the bytes of a frame that is not whole yet.
struct way {
  int from, to;
  bool is_consumer;
  uint8_t *bytes;
  size_t used;
  uint64_t tag, missing;
};

static void frame(struct way *way, const uint8_t *bytes, size_t size, int64_t time) {
  if (number(bytes + 1, 2) == 0) return;
  const uint8_t *payload = bytes + 7;
  bool is_basic = bytes[0] == 1 && number(payload, 2) == 60;
  if (way->is_consumer) {
    if (!is_basic || number(payload + 2, 2) != 80) return;
    for (uint64_t through = number(payload + 4, 8); acknowledged < through && acknowledged + 1 < MOST;) {
      acknowledged++;
      waited[measured++] = (time - delivered[acknowledged]) / 1000;
    }
    return;
  }
  if (is_basic && number(payload + 2, 2) == 60) way->tag = number(payload + 5 + payload[4], 8);
  if (bytes[0] == 2) way->missing = number(payload + 4, 8);
  if (bytes[0] == 3) way->missing -= size - 8;
  if (bytes[0] != 1 && way->missing == 0 && way->tag < MOST) {
    delivered[way->tag] = time;
    newest = way->tag;
  }
}

static bool relay(struct way *way) {
  ssize_t count = read(way->from, way->bytes + way->used, ROOM - way->used);
  if (count <= 0) return count < 0 && errno == EINTR;
  int64_t read_at = now();
  for (ssize_t done = 0; done < count;) {
    ssize_t sent = write(way->to, way->bytes + way->used + done, count - done);
    if (sent < 0 && errno != EINTR) return false;
    if (sent > 0) done += sent;
  }
  // A consumer's answer is over when it arrives here, a delivery begins to count when it has left.
  int64_t time = way->is_consumer ? read_at : now();
  way->used += count;
  size_t start = 0;
  // The consumer's first bytes are the protocol header, which is no frame.
  if (way->is_consumer && way->used >= 8 && memcmp(way->bytes, "AMQP", 4) == 0) start = 8;
  while (way->used - start >= 7) {
    size_t size = number(way->bytes + start + 3, 4) + 8;
    if (way->used - start < size) break;
    frame(way, way->bytes + start, size, time);
    start += size;
  }
  memmove(way->bytes, way->bytes + start, way->used - start);
  way->used -= start;
  return true;
}

static int compare(const void *left, const void *right) {
  uint32_t one = *(const uint32_t *)left, other = *(const uint32_t *)right;
  return one < other ? -1 : one > other;
}

int main(int count, char **arguments) {
  if (count < 2) return 64;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0) return 1;
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int consumer = accept(listener, NULL, NULL);
  int broker = socket(AF_INET, SOCK_STREAM, 0);
  address.sin_port = htons(atoi(arguments[1]));
  if (connect(broker, (struct sockaddr *)&address, sizeof address) != 0) return 1;
  setsockopt(consumer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(broker, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct way ways[2] = {{.from = broker, .to = consumer, .bytes = malloc(ROOM)},
                        {.from = consumer, .to = broker, .is_consumer = true, .bytes = malloc(ROOM)}};
  for (bool open = true; open;) {
    struct pollfd polled[2] = {{.fd = broker, .events = POLLIN}, {.fd = consumer, .events = POLLIN}};
    if (poll(polled, 2, -1) < 0 && errno != EINTR) return 1;
    for (int index = 0; index < 2; index++)
      if (polled[index].revents != 0 && !relay(&ways[index])) open = false;
  }
  qsort(waited, measured, sizeof *waited, compare);
  fprintf(stderr, "{\"acknowledged\": %lu, \"ack_p50_ms\": %.3f, \"ack_p99_ms\": %.3f}\n", measured,
          measured ? waited[measured / 2] / 1e3 : 0.0, measured ? waited[(uint64_t)(measured * 0.99)] / 1e3 : 0.0);
  return 0;
}
