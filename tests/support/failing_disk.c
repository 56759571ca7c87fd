/* A disk that fails where it is told to, for a process that is started with this library in LD_PRELOAD.
 *
 * It stands below Python and below SQLite: calls of the C library that write, sync, cut, open or remove files below
 * FAILING_DISK_DIRECTORY are counted, and those that the file FAILING_DISK_CONTROL names fail. That file is
 * mapped, so that a test reads the count and arms a fault while the process runs. See failing_disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, CUT = 4, OPEN = 8, REMOVE = 16 };

struct control {
    uint64_t calls;  /* how many calls there were of the kinds below */
    uint64_t first;  /* the number of the first call that fails; 0: none does */
    uint64_t last;   /* that of the last one */
    uint64_t failed; /* how many did */
    int64_t clock;   /* nanoseconds to be added to the time of day */
    int32_t error;   /* the errno; 0: what is written is written by half */
    uint32_t kinds;  /* which calls count */
    char what[256];  /* the call that failed last, and its file */
};

static struct control *control;
static char directory[4096];
static size_t length;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAILING_DISK_CONTROL"), *below = getenv("FAILING_DISK_DIRECTORY");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    if (path == NULL || below == NULL || strlen(below) >= sizeof directory) return;
    int fd = real(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) return;
    strcpy(directory, below);
    length = strlen(directory);
    control = mapped;
}

/* Whether this call is to fail; -1 as well where it is to do half of its work (control->error is 0). */
static int fails(uint32_t kind, const char *name, const char *path) {
    if (control == NULL || !(control->kinds & kind) || strncmp(path, directory, length) != 0) return 0;
    uint64_t number = __atomic_add_fetch(&control->calls, 1, __ATOMIC_SEQ_CST);
    uint64_t first = __atomic_load_n(&control->first, __ATOMIC_SEQ_CST);
    if (first == 0 || number < first || number > control->last) return 0;
    if (control->error == 0 && kind != WRITE) return 0;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    snprintf(control->what, sizeof control->what, "%s %.200s", name, path + length);
    errno = control->error;
    return -1;
}

static int fails_fd(uint32_t kind, const char *name, int fd) {
    char link[40], path[4096];
    if (control == NULL || !(control->kinds & kind)) return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, path, sizeof path - 1);
    errno = before;
    if (got < 0) return 0;
    path[got] = 0;
    return fails(kind, name, path);
}

#define REAL(result, name, parameters) \
    static result(*real) parameters; \
    if (real == NULL) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);

#define HALF(count) ((count) > 1 ? (count) / 2 : (count))

ssize_t write(int fd, const void *data, size_t count) {
    REAL(ssize_t, write, (int, const void *, size_t))
    if (fails_fd(WRITE, "write", fd) == 0) return real(fd, data, count);
    return control->error ? -1 : real(fd, data, HALF(count));
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *data, size_t count, offset_t offset) { \
        REAL(ssize_t, name, (int, const void *, size_t, offset_t)) \
        if (fails_fd(WRITE, "pwrite", fd) == 0) return real(fd, data, count, offset); \
        return control->error ? -1 : real(fd, data, HALF(count), offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* Of several buffers, half of the first one. */
#define PWRITEV(name, offset_t) \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_t offset) { \
        REAL(ssize_t, name, (int, const struct iovec *, int, offset_t)) \
        if (fails_fd(WRITE, "pwritev", fd) == 0) return real(fd, parts, count, offset); \
        struct iovec half = {parts->iov_base, HALF(parts->iov_len)}; \
        return control->error ? -1 : real(fd, &half, 1, offset); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define PWRITEV2(name, offset_t) \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_t offset, int flags) { \
        REAL(ssize_t, name, (int, const struct iovec *, int, offset_t, int)) \
        if (fails_fd(WRITE, "pwritev2", fd) == 0) return real(fd, parts, count, offset, flags); \
        struct iovec half = {parts->iov_base, HALF(parts->iov_len)}; \
        return control->error ? -1 : real(fd, &half, 1, offset, flags); \
    }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

#define ON_FD(kind, name, parameters, arguments) \
    int name parameters { \
        REAL(int, name, parameters) \
        return fails_fd(kind, #name, fd) ? -1 : real arguments; \
    }
ON_FD(SYNC, fsync, (int fd), (fd))
ON_FD(SYNC, fdatasync, (int fd), (fd))
ON_FD(CUT, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(CUT, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(CUT, fallocate, (int fd, int mode, off_t offset, off_t size), (fd, mode, offset, size))
ON_FD(CUT, fallocate64, (int fd, int mode, off64_t offset, off64_t size), (fd, mode, offset, size))

/* These return their error. */
#define POSIX_FALLOCATE(name, offset_t) \
    int name(int fd, offset_t offset, offset_t size) { \
        REAL(int, name, (int, offset_t, offset_t)) \
        return fails_fd(CUT, #name, fd) ? control->error : real(fd, offset, size); \
    }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN_PATH(name) \
    int name(const char *path, int flags, ...) { \
        MODE_OF(flags) \
        REAL(int, name, (const char *, int, ...)) \
        return fails(OPEN, "open", path) ? -1 : real(path, flags, mode); \
    }
OPEN_PATH(open)
OPEN_PATH(open64)

#define OPEN_AT(name) \
    int name(int at, const char *path, int flags, ...) { \
        MODE_OF(flags) \
        REAL(int, name, (int, const char *, int, ...)) \
        return fails(OPEN, "open", path) ? -1 : real(at, path, flags, mode); \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

#define ON_PATH(name, parameters, arguments) \
    int name parameters { \
        REAL(int, name, parameters) \
        return fails(REMOVE, #name, path) ? -1 : real arguments; \
    }
ON_PATH(unlink, (const char *path), (path))
ON_PATH(unlinkat, (int at, const char *path, int flags), (at, path, flags))
ON_PATH(rename, (const char *path, const char *to), (path, to))

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, (clockid_t, struct timespec *))
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && control != NULL && control->clock != 0) {
        int64_t moved = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + control->clock;
        now->tv_sec = moved / 1000000000;
        now->tv_nsec = moved % 1000000000;
    }
    return result;
}
