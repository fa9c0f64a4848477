/* Logs the calls that change files below a folder, in order, and lets one of them fail.
 *
 * DSK_LOG: the file of the log. DSK_BELOW: the folder. DSK_FAIL: `fsync 3` lets the third fsync
 * below the folder fail with EIO. For LD_PRELOAD; compiled by system_calls.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_below(const char *path)
{
    const char *below = getenv("DSK_BELOW");
    return below && strncmp(path, below, strlen(below)) == 0;
}

/* Log a call; return 1 if it must fail. */
static int logged(const char *name, const char *first, const char *second)
{
    static int calls;
    int fails = 0, at = 0;
    char line[3 * PATH_MAX], kind[32] = "";
    const char *log = getenv("DSK_LOG"), *fail = getenv("DSK_FAIL");
    if (!log || !(is_below(first) || is_below(second)))
        return 0;
    pthread_mutex_lock(&lock);
    if (fail && sscanf(fail, "%31s %d", kind, &at) == 2 && strcmp(kind, name) == 0)
        fails = ++calls == at;
    int size = snprintf(line, sizeof line, "%s%s\t%s\t%s\n", fails ? "failed " : "", name, first,
                        second);
    int file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file >= 0) {
        syscall(SYS_write, file, line, (size_t)size);
        syscall(SYS_close, file);
    }
    pthread_mutex_unlock(&lock);
    if (fails)
        errno = EIO;
    return fails;
}

static int logged_file(const char *name, int file)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return logged(name, path, "");
}

/* The path of a name that is relative to an open folder. */
static const char *full(int folder, const char *name, char *path)
{
    char link[64];
    if (name[0] == '/')
        return name;
    if (folder == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX))
            return name;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, path, PATH_MAX - 1);
        path[size < 0 ? 0 : size] = 0;
    }
    strncat(path, "/", PATH_MAX - strlen(path) - 1);
    strncat(path, name, PATH_MAX - strlen(path) - 1);
    return path;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file) { return logged_file("fsync", file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return logged_file("fsync", file) ? -1 : REAL(fdatasync)(file); }
int syncfs(int file) { return logged_file("syncfs", file) ? -1 : REAL(syncfs)(file); }

ssize_t write(int file, const void *data, size_t size)
{
    return logged_file("write", file) ? -1 : REAL(write)(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at)
{
    return logged_file("write", file) ? -1 : REAL(pwrite)(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at)
{
    return logged_file("write", file) ? -1 : REAL(pwrite64)(file, data, size, at);
}

ssize_t sendfile(int to, int from, off_t *at, size_t size)
{
    return logged_file("write", to) ? -1 : REAL(sendfile)(to, from, at, size);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
{
    return logged_file("write", to) ? -1 : REAL(sendfile64)(to, from, at, size);
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    return logged_file("write", to) ? -1 : REAL(copy_file_range)(from, at, to, to_at, size, flags);
}

int rename(const char *old, const char *new)
{
    char a[PATH_MAX], b[PATH_MAX];
    int fails = logged("rename", full(AT_FDCWD, old, a), full(AT_FDCWD, new, b));
    return fails ? -1 : REAL(rename)(old, new);
}

int renameat(int from, const char *old, int to, const char *new)
{
    char a[PATH_MAX], b[PATH_MAX];
    int fails = logged("rename", full(from, old, a), full(to, new, b));
    return fails ? -1 : REAL(renameat)(from, old, to, new);
}

int link(const char *old, const char *new)
{
    char a[PATH_MAX], b[PATH_MAX];
    int fails = logged("link", full(AT_FDCWD, old, a), full(AT_FDCWD, new, b));
    return fails ? -1 : REAL(link)(old, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char a[PATH_MAX], b[PATH_MAX];
    int fails = logged("link", full(from, old, a), full(to, new, b));
    return fails ? -1 : REAL(linkat)(from, old, to, new, flags);
}
