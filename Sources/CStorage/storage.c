// What the journal needs of SQLite and the system beyond what Swift can call. Here and not in a header, so that what the system's
// headers define stays out of Swift's modules.
#define _GNU_SOURCE
#include "CStorage.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

// The library's `pwrite`. It makes a WAL index longer by writing the last byte of each page, and then writes the rest through a
// mapping of the file. A file system whose blocks are smaller than a page has no room for that rest by then, and if it is full the
// process ends by SIGBUS: so the whole page is reserved first, or the write fails with ENOSPC. What is in the file is not touched.
// https://man7.org/linux/man-pages/man2/fallocate.2.html
static ssize_t write_reserved(int file, const void *bytes, size_t count, off_t offset) {
  if (count == 1 && (offset & 4095) == 4095) {
    int code = fallocate(file, 0, offset - 4095, 4096);
    if (code != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return -1;
  }
  return pwrite(file, bytes, count, offset);
}

int cstorage_prepare(void) {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  sqlite3_vfs *system = sqlite3_vfs_find(0);
  if (!system || system->iVersion < 3) return SQLITE_ERROR;
  // One of the two is in use, by how the library was built.
  int code = system->xSetSystemCall(system, "pwrite64", (sqlite3_syscall_ptr)write_reserved);
  int other = system->xSetSystemCall(system, "pwrite", (sqlite3_syscall_ptr)write_reserved);
  return code == SQLITE_OK || other == SQLITE_OK ? SQLITE_OK : code;
}
