#pragma once
#include <stddef.h>

/// Sets what holds for the whole process; to be called before anything else. The library does not count the memory that it takes,
/// which it would do under a lock of the process, and reserves the pages of a WAL index before it makes that longer.
///
/// Returns a result code of SQLite.
int cstorage_prepare(void);

/// `PRAGMA quick_check` of one table of a `sqlite3 *`, given up after so many milliseconds, or later: some versions of SQLite look at a
/// whole table in one step. `text` gets the first thing that is found, and is empty if that is nothing, or if the time was over.
/// https://www.sqlite.org/pragma.html#pragma_quick_check https://www.sqlite.org/c3ref/progress_handler.html
///
/// Returns a result code of SQLite.
int cstorage_quick_check(void *database, const char *table, int milliseconds, char *text, size_t size);
