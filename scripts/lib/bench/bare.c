// SQLite without the connector: the journal's own schema and settings, in C, with nothing around the statements.
//
//   bare append JOURNAL MESSAGES SIZE BATCH   append BATCH rows and prune as many a transaction
//   bare select JOURNAL                       read every column that a document needs of every row
//   bare commits JOURNAL COUNT SIZE           one row a transaction, one every millisecond: how long each commit takes
//
// JOURNAL was made by the connector, and no one else has it open. Prints one JSON object to stderr.
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static sqlite3 *database;

static void check(int code) {
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
  fprintf(stderr, "%s\n", sqlite3_errmsg(database));
  exit(1);
}

static sqlite3_stmt *prepare(const char *sql) {
  sqlite3_stmt *statement;
  check(sqlite3_prepare_v3(database, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL));
  return statement;
}

static void run(sqlite3_stmt *statement) {
  int code;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {}
  check(code);
  sqlite3_reset(statement);
}

static int64_t integer(const char *sql) {
  sqlite3_stmt *statement = prepare(sql);
  check(sqlite3_step(statement));
  int64_t value = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return value;
}

static int64_t nanoseconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int compare(const void *left, const void *right) {
  int64_t one = *(const int64_t *)left, other = *(const int64_t *)right;
  return one < other ? -1 : one > other;
}

// What is appended.
static struct {
  sqlite3_stmt *begin, *commit, *insert, *counters, *delete;
  int64_t last, committed, bytes, consumer;
  char *body;
  int size;
} writer;

static void open_writer(int size) {
  writer.begin = prepare("BEGIN IMMEDIATE");
  writer.commit = prepare("COMMIT");
  writer.insert = prepare(
      "INSERT INTO message (position, consumer, delivery_tag, received_at, redelivered, size, bytes_before, exchange, "
      "routing_key, properties, raw_properties, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
  writer.counters = prepare("UPDATE journal SET last = ?1, emitted = ?2, committed = ?3, bytes = ?4");
  writer.delete = prepare("DELETE FROM message WHERE position > ?1 AND position <= ?2");
  writer.last = integer("SELECT last FROM journal");
  writer.committed = integer("SELECT committed FROM journal");
  writer.bytes = integer("SELECT bytes FROM journal");
  writer.consumer = integer("SELECT max(id) FROM consumer");
  writer.size = size;
  writer.body = malloc(size + 128);
  int at = sprintf(writer.body, "{\"order\":1000001,\"total\":17.42,\"lines\":[");
  for (int line = 0; at + 80 < size; line++)
    at += sprintf(writer.body + at, "%s{\"sku\":\"A-%04d\",\"quantity\":%d,\"price\":%d.9}", line ? "," : "", line % 10000,
                  line % 9 + 1, line % 97 + 1);
  at += sprintf(writer.body + at, "],\"note\":\"");
  while (at < size - 2) writer.body[at++] = 'x';
  memcpy(writer.body + at, "\"}", 2);
}

static void append(void) {
  static const char properties[] =
      "{\"content_type\":\"application/json\",\"headers\":{\"attempt\":1,\"trace\":\"4bf92f3577b34da6a3ce929d\"},"
      "\"delivery_mode\":2,\"message_id\":\"o-1000001\",\"timestamp\":\"2025-11-24T16:00:00Z\",\"app_id\":\"shop\"}";
  sqlite3_stmt *insert = writer.insert;
  sqlite3_bind_int64(insert, 1, ++writer.last);
  sqlite3_bind_int64(insert, 2, writer.consumer);
  sqlite3_bind_int64(insert, 3, writer.last);
  sqlite3_bind_int64(insert, 4, 1764000000000000 + writer.last);
  sqlite3_bind_int64(insert, 5, 0);
  sqlite3_bind_int64(insert, 6, writer.size);
  sqlite3_bind_int64(insert, 7, writer.bytes);
  sqlite3_bind_text(insert, 8, "amq.topic", 9, SQLITE_STATIC);
  sqlite3_bind_text(insert, 9, "orders.new", 10, SQLITE_STATIC);
  sqlite3_bind_text(insert, 10, properties, sizeof properties - 1, SQLITE_STATIC);
  sqlite3_bind_null(insert, 11);
  sqlite3_bind_text(insert, 12, writer.body, writer.size, SQLITE_STATIC);
  run(insert);
  writer.bytes += writer.size;
}

static void store(int64_t committed) {
  sqlite3_bind_int64(writer.counters, 1, writer.last);
  sqlite3_bind_int64(writer.counters, 2, committed);
  sqlite3_bind_int64(writer.counters, 3, committed);
  sqlite3_bind_int64(writer.counters, 4, writer.bytes);
  run(writer.counters);
}

// The WAL is copied into the file where the journal does it, too.
static int frames;
static int count_frames(void *context, sqlite3 *handle, const char *name, int count) {
  (void)context, (void)handle, (void)name;
  frames = count;
  return SQLITE_OK;
}

static void checkpoint(int64_t page_size) {
  if (frames * page_size >= 16 << 20) check(sqlite3_wal_checkpoint_v2(database, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL));
}

int main(int count, char **arguments) {
  if (count < 3) return 64;
  const char *what = arguments[1];
  int64_t messages = count > 3 ? atoll(arguments[3]) : 0;
  int size = count > 4 ? atoi(arguments[4]) : 0, batch = count > 5 ? atoi(arguments[5]) : 1;
  check(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0));
  check(sqlite3_open_v2(arguments[2], &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL));
  check(sqlite3_exec(database,
                     "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; "
                     "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; "
                     "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
                     NULL, NULL, NULL));
  int64_t page_size = integer("PRAGMA page_size"), rows = messages, latency[2] = {0, 0};
  sqlite3_wal_hook(database, count_frames, NULL);
  int64_t start = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
  if (strcmp(what, "append") == 0) {
    open_writer(size);
    for (int64_t done = 0; done < messages; done += batch) {
      int64_t before = writer.last;
      run(writer.begin);
      for (int index = 0; index < batch; index++) append();
      // What the transaction before appended is committed downstream by now.
      sqlite3_bind_int64(writer.delete, 1, writer.committed);
      sqlite3_bind_int64(writer.delete, 2, before);
      run(writer.delete);
      writer.committed = before;
      store(before);
      run(writer.commit);
      checkpoint(page_size);
    }
  } else if (strcmp(what, "select") == 0) {
    sqlite3_stmt *select = prepare(
        "SELECT position, consumer, delivery_tag, redelivered, received_at, exchange, routing_key, properties, body "
        "FROM message WHERE position > 0 ORDER BY position");
    int64_t sum = 0;
    for (rows = 0; sqlite3_step(select) == SQLITE_ROW; rows++) {
      for (int column = 0; column < 5; column++) sum += sqlite3_column_int64(select, column);
      for (int column = 5; column < 9; column++) {
        const char *bytes = sqlite3_column_blob(select, column);
        int width = sqlite3_column_bytes(select, column);
        if (width > 0) sum += bytes[0] + bytes[width - 1];
      }
    }
    sqlite3_finalize(select);
    if (sum == 0) return 1;
  } else if (strcmp(what, "commits") == 0) {
    open_writer(size);
    int64_t *taken = malloc(messages * sizeof *taken);
    for (int64_t done = 0; done < messages; done++) {
      int64_t due = start + done * 1000000;
      struct timespec time = {due / 1000000000, due % 1000000000};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
      int64_t from = nanoseconds(CLOCK_MONOTONIC);
      run(writer.begin);
      append();
      store(writer.committed);
      run(writer.commit);
      taken[done] = nanoseconds(CLOCK_MONOTONIC) - from;
      checkpoint(page_size);
    }
    qsort(taken, messages, sizeof *taken, compare);
    latency[0] = taken[messages / 2];
    latency[1] = taken[(int64_t)(messages * 0.99)];
  } else {
    return 64;
  }
  double seconds = (nanoseconds(CLOCK_MONOTONIC) - start) / 1e9;
  double used = (nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9;
  fprintf(stderr, "{\"messages\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
          rows, seconds, used, latency[0] / 1e6, latency[1] / 1e6);
  return 0;
}
