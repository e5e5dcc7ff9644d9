// Plays the Flow runtime for one session, at as little cost as can be: commits every checkpoint at once.
//
//   driver REQUESTS MESSAGES [--hold JOURNAL] [--opened] [--kill] [--tail FILE] [--commit MILLISECONDS] -- COMMAND…
//
// REQUESTS is a file of the lines to send first (spec, open). Ends the session once MESSAGES documents are committed.
//
//   --hold JOURNAL  read nothing after `opened`: the runtime stalls. The session counts as done when the journal holds
//                   MESSAGES messages more than it did.
//   --opened        the session counts as done when it is opened
//   --kill          end the session with SIGKILL, as a crash would
//   --commit MILLISECONDS  a commit takes what checkpoints there are, lasts so long, acknowledges them, and the next begins: as Flow
//                   does it, where one transaction is captured while the one before is committed
//   --tail FILE     the command writes documents to FILE instead of stdout, and is ended with SIGTERM
//
// Prints one JSON object to stderr. `cpu_seconds` is of the whole process, start and end included; `work_cpu_seconds`
// from the first document (with --hold: from `opened`) to the last. Latencies, in milliseconds, are from `received_at` to the
// reading of the document's line. `drain_seconds` is from the first `received_at` to the last.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

static pid_t child;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  if (child > 0) kill(child, SIGKILL);
  exit(1);
}

static int64_t nanoseconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) die("clock_gettime: %s", strerror(errno));
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t child_cpu(void) {
  clockid_t clock;
  if (clock_getcpuclockid(child, &clock) != 0) die("clock_getcpuclockid");
  return nanoseconds(clock);
}

// What one session showed.
static struct {
  int64_t spawned, opened, first, last, first_cpu, last_cpu;
  // Microseconds since 1970 of the first and the last document's received_at.
  int64_t received_first, received_last;
  uint64_t documents, bytes, checkpoints, committed;
  uint32_t *latencies;
  uint64_t capacity;
} result;

// Microseconds of the day in "2026-11-24T21:00:00.123456Z", after the date.
static int64_t time_of_day(const char *text) {
  int64_t value = 0;
  static const int places[] = {11, 12, 14, 15, 17, 18};
  static const int weights[] = {36000, 3600, 600, 60, 10, 1};
  for (int index = 0; index < 6; index++) value += (text[places[index]] - '0') * weights[index];
  for (int index = 20; index < 26; index++) value = value * 10 + (text[index] - '0');
  return value;
}

static void document(const char *line, size_t length, int64_t now) {
  static const char key[] = "{\"received_at\":\"";
  const char *at = memmem(line, length < 200 ? length : 200, key, sizeof key - 1);
  if (at == NULL || at + sizeof key + 27 > line + length) die("no document: %.*s", (int)(length < 200 ? length : 200), line);
  int64_t day = 86400LL * 1000000, received = time_of_day(at + sizeof key - 1), latency = now / 1000 % day - received;
  if (latency < 0) latency += day;
  if (result.documents == 0) result.received_first = received;
  if (result.first == 0) {
    result.first = now;
    result.first_cpu = child_cpu();
  }
  result.received_last = received;
  if (result.documents == result.capacity) {
    result.capacity = result.capacity ? result.capacity * 2 : 1 << 16;
    result.latencies = realloc(result.latencies, result.capacity * sizeof *result.latencies);
  }
  result.latencies[result.documents++] = latency > UINT32_MAX ? UINT32_MAX : latency;
  result.bytes += length + 1;
}

// Reads what `file` has and handles the whole lines; false at the end of it. Sets `checkpoints` to how many ended.
static bool read_lines(int file, uint64_t *checkpoints) {
  static char *buffer;
  static size_t size, used;
  if (size - used < BUFFER) buffer = realloc(buffer, size = size * 2 + 2 * BUFFER);
  ssize_t count = read(file, buffer + used, BUFFER);
  if (count < 0 && errno == EINTR) return true;
  if (count <= 0) return false;
  int64_t now = nanoseconds(CLOCK_REALTIME);
  size_t start = 0, scanned = used;
  used += count;
  for (char *end; (end = memchr(buffer + scanned, '\n', used - scanned)) != NULL;) {
    const char *line = buffer + start;
    size_t length = end - line;
    if (length > 14 && memcmp(line, "{\"checkpoint\":", 14) == 0) {
      ++*checkpoints;
      result.last = now;
    } else if (length > 10 && memcmp(line, "{\"opened\":", 10) == 0) {
      result.opened = now;
    } else if (length > 8 && memcmp(line, "{\"spec\":", 8) == 0) {
    } else {
      document(line, length, now);
    }
    start = scanned = end + 1 - buffer;
  }
  memmove(buffer, buffer + start, used - start);
  used -= start;
  return true;
}

static void send_all(int file, const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t done = write(file, bytes, count);
    if (done < 0 && errno != EINTR) die("the connector does not read its stdin: %s", strerror(errno));
    if (done > 0) bytes += done, count -= done;
  }
}

static void rest(int64_t nanosecond) {
  struct timespec time = {0, nanosecond};
  nanosleep(&time, NULL);
}

// The position of the newest message in a journal that is being written; 0 if there is none yet.
static int64_t newest(const char *path) {
  static sqlite3 *database;
  static sqlite3_stmt *statement;
  if (access(path, F_OK) != 0) return 0;
  if (database == NULL) {
    if (sqlite3_open_v2(path, &database, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) die("%s", sqlite3_errmsg(database));
    sqlite3_busy_timeout(database, 1000);
  }
  if (statement == NULL &&
      sqlite3_prepare_v2(database, "SELECT last FROM journal", -1, &statement, NULL) != SQLITE_OK) return 0;
  int64_t last = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
  sqlite3_reset(statement);
  return last;
}

static int compare(const void *left, const void *right) {
  uint32_t one = *(const uint32_t *)left, other = *(const uint32_t *)right;
  return one < other ? -1 : one > other;
}

static double latency(double share) {
  if (result.documents == 0) return 0;
  return result.latencies[(uint64_t)(share * (result.documents - 1))] / 1e3;
}

int main(int count, char **arguments) {
  if (count < 5) die("usage: driver REQUESTS MESSAGES [--hold JOURNAL] [--opened] [--kill] [--tail FILE] [--commit MILLISECONDS] -- COMMAND…");
  int latency_of_commit = 0;
  const char *requests = arguments[1], *journal = NULL, *tail = NULL;
  uint64_t messages = strtoull(arguments[2], NULL, 10);
  bool kills = false, opens = false;
  int index = 3;
  for (; index < count && strcmp(arguments[index], "--") != 0; index++) {
    if (strcmp(arguments[index], "--hold") == 0) journal = arguments[++index];
    else if (strcmp(arguments[index], "--tail") == 0) tail = arguments[++index];
    else if (strcmp(arguments[index], "--commit") == 0) latency_of_commit = atoi(arguments[++index]);
    else if (strcmp(arguments[index], "--kill") == 0) kills = true;
    else if (strcmp(arguments[index], "--opened") == 0) opens = true;
    else die("unknown argument %s", arguments[index]);
  }
  signal(SIGPIPE, SIG_IGN);
  int to_child[2], from_child[2];
  if (pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0) die("pipe: %s", strerror(errno));
  fcntl(from_child[0], F_SETPIPE_SZ, BUFFER);
  int64_t before = journal ? newest(journal) : 0;
  result.spawned = nanoseconds(CLOCK_REALTIME);
  child = fork();
  if (child == 0) {
    dup2(to_child[0], STDIN_FILENO);
    dup2(from_child[1], STDOUT_FILENO);
    execv(arguments[index + 1], arguments + index + 1);
    _exit(127);
  }
  close(to_child[0]);
  close(from_child[1]);
  int input = to_child[1], output = from_child[0];

  char *lines = NULL;
  size_t length = 0;
  FILE *file = fopen(requests, "r");
  if (file == NULL || getdelim(&lines, &length, 0, file) < 0) die("cannot read %s", requests);
  fclose(file);
  send_all(input, lines, strlen(lines));

  uint64_t checkpoints = 0;
  if (journal) {
    while (result.opened == 0)
      if (!read_lines(output, &checkpoints)) die("the connector ended before it opened");
    // It connects now; when its first commit came cannot be seen from here.
    result.first = result.opened;
    result.first_cpu = child_cpu();
    while (newest(journal) < before + (int64_t)messages) {
      if (waitpid(child, NULL, WNOHANG) != 0) die("the connector ended");
      rest(5000000);
    }
    result.last = nanoseconds(CLOCK_REALTIME);
  } else if (opens) {
    while (result.opened == 0)
      if (!read_lines(output, &checkpoints)) die("the connector ended before it opened");
  } else if (tail) {
    int followed = -1;
    while (result.documents < messages) {
      if (followed < 0) followed = open(tail, O_RDONLY | O_CLOEXEC);
      if (followed < 0 || !read_lines(followed, &checkpoints)) rest(1000000);
      if (waitpid(child, NULL, WNOHANG) != 0) die("the connector ended");
    }
    result.last = nanoseconds(CLOCK_REALTIME);
  } else {
    // Of a commit that is on its way: how many checkpoints it has, and when it is done.
    uint64_t committing = 0;
    int64_t done = 0;
    while (result.documents < messages || result.committed < result.checkpoints || result.checkpoints == 0) {
      // What came during a commit is the next one.
      if (committing == 0 && result.checkpoints > result.committed) {
        committing = result.checkpoints - result.committed;
        done = nanoseconds(CLOCK_MONOTONIC) + latency_of_commit * 1000000LL;
      }
      int64_t left = committing > 0 ? (done - nanoseconds(CLOCK_MONOTONIC) + 999999) / 1000000 : -1;
      struct pollfd polled = {output, POLLIN, 0};
      if (poll(&polled, 1, left < 0 && committing > 0 ? 0 : left) > 0) {
        checkpoints = 0;
        if (!read_lines(output, &checkpoints)) die("the connector ended after %lu documents", result.documents);
        result.checkpoints += checkpoints;
      }
      if (committing > 0 && nanoseconds(CLOCK_MONOTONIC) >= done) {
        char acknowledgement[64];
        int bytes = sprintf(acknowledgement, "{\"acknowledge\":{\"checkpoints\":%lu}}\n", committing);
        send_all(input, acknowledgement, bytes);
        result.committed += committing;
        committing = 0;
      }
    }
  }
  result.last_cpu = child_cpu();
  if (tail) {
    kill(child, SIGTERM);
  } else if (kills) {
    kill(child, SIGKILL);
  }
  close(input);
  while (read_lines(output, &checkpoints)) {}
  int status;
  struct rusage usage;
  if (wait4(child, &status, 0, &usage) != child) die("wait4: %s", strerror(errno));
  if (!kills && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) die("the connector ended with %x", status);

  double user = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6;
  double system = usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
  int64_t day = 86400LL * 1000000;
  if (journal) result.documents = 0;  // They were held back on purpose.
  qsort(result.latencies, result.documents, sizeof *result.latencies, compare);
  fprintf(stderr,
          "{\"messages\": %lu, \"document_bytes\": %lu, \"checkpoints\": %lu, \"open_seconds\": %.6f, "
          "\"seconds\": %.6f, \"drain_seconds\": %.6f, \"cpu_seconds\": %.6f, \"user_seconds\": %.6f, "
          "\"work_cpu_seconds\": %.6f, \"peak_kib\": %ld, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
          messages, result.bytes, result.checkpoints, result.opened ? (result.opened - result.spawned) / 1e9 : 0.0,
          (result.last - result.first) / 1e9,
          journal ? 0.0 : (result.received_last - result.received_first + day) % day / 1e6, user + system, user,
          (result.last_cpu - result.first_cpu) / 1e9, usage.ru_maxrss, latency(0.5), latency(0.99));
  return 0;
}
