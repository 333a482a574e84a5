/* Moves the wall clock of a program: preloaded, and told the seconds to add by the file that
 * $MERIDIAN_TEST_CLOCK names, a 64-bit integer that may change at any time. The monotonic clock
 * stays as it is.
 *
 * libfaketime would do, but Envoy's allocator asks for the time inside malloc, and libfaketime
 * calls malloc before it can tell the time (its issue 130): Envoy hangs before its first line. So
 * nothing here allocates. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *ahead;

/* Ends the program that cannot be told: it would show the true time instead. */
__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("MERIDIAN_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        static const char why[] = "the file that $MERIDIAN_TEST_CLOCK names cannot be mapped\n";
        ssize_t written = write(STDERR_FILENO, why, sizeof why - 1);
        _exit(written < 0 ? 70 : 71);
    }
    close(file);
    ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    /* Libraries that are loaded before this one may ask before it is opened. */
    if (!failed && is_wall && ahead)
        now->tv_sec += __atomic_load_n(ahead, __ATOMIC_RELAXED);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *stored) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (stored)
        *stored = precise.tv_sec;
    return precise.tv_sec;
}
