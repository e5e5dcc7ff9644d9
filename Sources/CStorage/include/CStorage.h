#pragma once
/// Sets what holds for the whole process; to be called before anything else. The library does not count the memory that it takes,
/// which it would do under a lock of the process, and reserves the pages of a WAL index before it makes that longer.
///
/// Returns a result code of SQLite.
int cstorage_prepare(void);
