#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

/// Sets one boolean option of a connection. Swift does not import `sqlite3_db_config` itself, it is variadic.
static inline int csqlite_db_config(sqlite3 *db, int option, int value) {
  return sqlite3_db_config(db, option, value, (int *)0);
}

/// `sqlite3_step`; `number` becomes the errno that was left behind by a call that failed, 0 where the system had nothing to
/// say. `sqlite3_system_errno` is not set by a COMMIT (3.40), or still holds what an older error has left; and errno must be
/// read before any Swift code runs.
static inline int csqlite_step(sqlite3_stmt *statement, int *number) {
  errno = 0;
  int code = sqlite3_step(statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE) *number = errno;
  return code;
}

/// `sqlite3_exec` without a callback, and errno as in `csqlite_step`.
static inline int csqlite_execute(sqlite3 *db, const char *sql, int *number) {
  errno = 0;
  int code = sqlite3_exec(db, sql, 0, 0, 0);
  if (code != SQLITE_OK) *number = errno;
  return code;
}

/// Binds a copy of `count` bytes, as TEXT in UTF-8 or as BLOB. Swift does not import `SQLITE_TRANSIENT`, it is a cast.
static inline int csqlite_bind_copy(sqlite3_stmt *statement, int index, const void *bytes, sqlite3_uint64 count, int text) {
  return text ? sqlite3_bind_text64(statement, index, bytes, count, SQLITE_TRANSIENT, SQLITE_UTF8)
              : sqlite3_bind_blob64(statement, index, bytes, count, SQLITE_TRANSIENT);
}

/// Whether the time in `deadline` has come.
static int csqlite_is_late(void *deadline) {
  const struct timespec *limit = (const struct timespec *)deadline;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec > limit->tv_sec || (now.tv_sec == limit->tv_sec && now.tv_nsec >= limit->tv_nsec);
}

/// `PRAGMA quick_check(1)`, given up after so many milliseconds. `text` gets what it found, and is empty if that is nothing, or if the
/// time was over. https://www.sqlite.org/pragma.html#pragma_quick_check https://www.sqlite.org/c3ref/progress_handler.html
static inline int csqlite_quick_check(sqlite3 *db, int milliseconds, char *text, size_t size) {
  struct timespec limit;
  clock_gettime(CLOCK_MONOTONIC, &limit);
  limit.tv_sec += milliseconds / 1000;
  limit.tv_nsec += milliseconds % 1000 * 1000000L;
  if (limit.tv_nsec >= 1000000000L) {
    limit.tv_sec++;
    limit.tv_nsec -= 1000000000L;
  }
  text[0] = 0;
  sqlite3_stmt *statement = 0;
  int code = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, 0);
  if (code != SQLITE_OK) return code;
  sqlite3_progress_handler(db, 1000, csqlite_is_late, &limit);
  code = sqlite3_step(statement);
  if (code == SQLITE_ROW) {
    const char *found = (const char *)sqlite3_column_text(statement, 0);
    if (found && strcmp(found, "ok") != 0) snprintf(text, size, "%s", found);
  }
  sqlite3_finalize(statement);
  sqlite3_progress_handler(db, 0, 0, 0);
  return code == SQLITE_ROW || code == SQLITE_DONE || (code & 0xff) == SQLITE_INTERRUPT ? SQLITE_OK : code;
}

/// `sqlite3_wal_checkpoint_v2` of the main database, and errno as in `csqlite_step`.
static inline int csqlite_checkpoint(sqlite3 *db, int mode, int *frames, int *copied, int *number) {
  errno = 0;
  int code = sqlite3_wal_checkpoint_v2(db, "main", mode, frames, copied);
  if (code != SQLITE_OK) *number = errno;
  return code;
}

/// The library's `pwrite`. It makes a WAL index longer by writing the last byte of each page, and then writes the rest through a
/// mapping of the file. A file system whose blocks are smaller than a page has no room for that rest by then, and if it is full the
/// process ends by SIGBUS: so the whole page is reserved first, or the write fails with ENOSPC. What is in the file is not touched.
/// https://man7.org/linux/man-pages/man2/fallocate.2.html
static inline ssize_t csqlite_pwrite(int file, const void *bytes, size_t count, off_t offset) {
  if (count == 1 && (offset & 4095) == 4095) {
    int code = fallocate(file, 0, offset - 4095, 4096);
    if (code != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return -1;
  }
  return pwrite(file, bytes, count, offset);
}

/// Sets what holds for the whole process; to be called before anything else. The library does not count the memory that it takes,
/// which it would do under a lock of the process, and writes by `csqlite_pwrite`. Swift does not import `sqlite3_config` itself, it
/// is variadic.
static inline int csqlite_prepare(void) {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  sqlite3_vfs *system = sqlite3_vfs_find(0);
  if (!system || system->iVersion < 3) return SQLITE_ERROR;
  // One of the two is in use, by how the library was built.
  int code = system->xSetSystemCall(system, "pwrite64", (sqlite3_syscall_ptr)csqlite_pwrite);
  int other = system->xSetSystemCall(system, "pwrite", (sqlite3_syscall_ptr)csqlite_pwrite);
  return code == SQLITE_OK || other == SQLITE_OK ? SQLITE_OK : code;
}

/// The type of the file system at `path` as statfs(2) gives it, -1 with errno where that fails. Swift's module of
/// the C library leaves `sys/statfs.h` out.
static inline long csqlite_file_system(const char *path) {
  struct statfs status;
  return statfs(path, &status) == 0 ? (long)(unsigned int)status.f_type : -1L;
}
