#include <errno.h>
#include <sqlite3.h>
#include <sys/statfs.h>

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

/// `sqlite3_wal_checkpoint_v2` of the main database, and errno as in `csqlite_step`.
static inline int csqlite_checkpoint(sqlite3 *db, int mode, int *frames, int *copied, int *number) {
  errno = 0;
  int code = sqlite3_wal_checkpoint_v2(db, "main", mode, frames, copied);
  if (code != SQLITE_OK) *number = errno;
  return code;
}

/// The type of the file system at `path` as statfs(2) gives it, -1 with errno where that fails. Swift's module of
/// the C library leaves `sys/statfs.h` out.
static inline long csqlite_file_system(const char *path) {
  struct statfs status;
  return statfs(path, &status) == 0 ? (long)(unsigned int)status.f_type : -1L;
}
