#include <sqlite3.h>
#include <sys/statfs.h>

/// Sets one boolean option of a connection. Swift does not import `sqlite3_db_config` itself, it is variadic.
static inline int csqlite_db_config(sqlite3 *db, int option, int value) {
  return sqlite3_db_config(db, option, value, (int *)0);
}

/// Stops the library from counting the memory that it takes, which it does under a lock of the whole process; to be
/// called before anything else. Swift does not import `sqlite3_config` itself, it is variadic.
static inline int csqlite_stop_counting_memory(void) { return sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

/// The type of the file system at `path` as statfs(2) gives it, -1 with errno where that fails. Swift's module of
/// the C library leaves `sys/statfs.h` out.
static inline long csqlite_file_system(const char *path) {
  struct statfs status;
  return statfs(path, &status) == 0 ? (long)(unsigned int)status.f_type : -1L;
}
