/* A small pool of threads for loops over independent items.
 *
 * Not OpenMP: its usual runtime hangs a child that was forked after a parallel region, exits the process when a thread
 * cannot be created, and spins on cores that other libraries need. Here workers start on first use, wait awake for a
 * moment, giving way to whoever wants the processor, and then sleep; a forked child begins with an empty pool, and when
 * threads cannot be had the loop runs on those there are. Each thread has a range of the items, the same in every loop of
 * as many, so that it meets what it wrote to its caches before; one that is done takes items of the others' ranges. Which
 * thread computes an item never changes what it computes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include "internal.h"

/* How long a thread waits awake. A sleeping processor takes long to wake, longest in a virtual machine, and the next
 * stage or layer often follows at once. */
enum { SPIN_NANOSECONDS = 250000, PAUSES = 100 };

/* The items that a thread takes first; in a cache line of its own. */
struct range {
    _Alignas(64) atomic_int_fast64_t next;
    int64_t end;
};

static struct {
    pthread_mutex_t busy;  /* held by the caller whose loop the pool runs */
    pthread_mutex_t mutex; /* guards what follows, except the atomics */
    pthread_cond_t wake, done;
    int32_t workers;                 /* threads started */
    pthread_t threads[MAX_THREADS - 1];
    int left;                        /* the processor that they were last kept off, or -1 */
    int32_t wanted;                  /* the first so many workers may still join the current loop */
    atomic_int active;               /* workers inside it */
    atomic_uint_fast64_t generation; /* counts loops */
    struct range ranges[MAX_THREADS]; /* the caller's, then the workers' */
    bool flush;
    parallel_body *body;
    const void *context;
} pool = {
    .busy = PTHREAD_MUTEX_INITIALIZER,
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
    .left = -1,
};

static int64_t nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits awake, for a while, as long as the condition holds. Whoever else wants the processor gets it. */
#define SPIN_WHILE(condition) \
    for (int64_t end = nanoseconds() + SPIN_NANOSECONDS; (condition) && nanoseconds() < end; sched_yield()) \
        for (int32_t pause = 0; pause < PAUSES && (condition); pause++) \
            relax();

/* Denormal operands take a slow path of hundreds of cycles on some processors. */
static inline uint64_t flush_denormals(void) {
    uint64_t mode = 0;
#if defined(__x86_64__)
    mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr((uint32_t)mode | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (UINT64_C(1) << 24)));
#endif
    return mode;
}

static inline void restore_denormals(uint64_t mode) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((uint32_t)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

static void work(int32_t thread, int32_t count, bool flush, parallel_body *body, const void *context) {
    uint64_t mode = flush ? flush_denormals() : 0;
    for (int32_t i = 0; i < count; i++) {
        struct range *range = &pool.ranges[(thread + i) % count];
        for (int64_t item; (item = atomic_fetch_add_explicit(&range->next, 1, memory_order_relaxed)) < range->end;)
            body(context, item, thread);
    }
    if (flush)
        restore_denormals(mode);
}

static void *worker(void *number) {
    const int32_t thread = (int32_t)(intptr_t)number;
    uint_fast64_t seen = 0;
    for (;;) {
        SPIN_WHILE(atomic_load(&pool.generation) == seen)
        pthread_mutex_lock(&pool.mutex);
        while (atomic_load(&pool.generation) == seen)
            pthread_cond_wait(&pool.wake, &pool.mutex);
        seen = atomic_load(&pool.generation);
        if (thread <= pool.wanted) {
            pool.active++;
            int32_t count = pool.wanted + 1;
            bool flush = pool.flush;
            parallel_body *body = pool.body;
            const void *context = pool.context;
            pthread_mutex_unlock(&pool.mutex);
            work(thread, count, flush, body, context);
            pthread_mutex_lock(&pool.mutex);
            if (--pool.active == 0)
                pthread_cond_signal(&pool.done);
        }
        pthread_mutex_unlock(&pool.mutex);
    }
    return NULL;
}

/* The child has none of its parent's workers, and may have copied a mutex that one of them held. */
static void start_afresh(void) {
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.workers = 0;
    pool.left = -1;
    pool.wanted = 0;
    pool.active = 0;
    pool.generation = 0;
}

static void register_fork_handler(void) { pthread_atfork(NULL, NULL, start_afresh); }

/* Starts workers until there are `count`, or as many as the system gives. Signals are left to the caller's threads. */
static void start_workers(int32_t count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.workers < count) {
        pthread_t *thread = &pool.threads[pool.workers];
        if (pthread_create(thread, NULL, worker, (void *)(intptr_t)(pool.workers + 1)) != 0)
            break;
        pthread_detach(*thread);
        pool.workers++;
        pool.left = -1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Keeps the workers off the caller's processor, where there is none to spare. While another library's threads wait awake
 * (OpenBLAS's do for a tenth of a second after a product) no processor looks free, and a worker that wakes may be put
 * where the caller is: then the two are no faster than one. */
static void leave_processor(void) {
#if defined(__linux__)
    int processor = sched_getcpu();
    cpu_set_t allowed;
    if (processor == pool.left || processor < 0 || processor >= CPU_SETSIZE ||
        pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed) != 0)
        return;
    pool.left = processor;
    CPU_CLR(processor, &allowed);
    if (CPU_COUNT(&allowed) == 0 || CPU_COUNT(&allowed) > pool.workers)
        return;
    for (int32_t i = 0; i < pool.workers; i++)
        pthread_setaffinity_np(pool.threads[i], sizeof allowed, &allowed);
#endif
}

static void run_serially(int64_t begin, int64_t end, bool flush, parallel_body *body, const void *context) {
    uint64_t mode = flush ? flush_denormals() : 0;
    for (int64_t item = begin; item < end; item++)
        body(context, item, 0);
    if (flush)
        restore_denormals(mode);
}

void parallel_for(int64_t begin, int64_t end, int32_t threads, bool flush, parallel_body *body, const void *context) {
    int32_t helpers = (int32_t)min64(min64(threads - 1, end - begin - 1), MAX_THREADS - 1);
    if (helpers < 1 || pthread_mutex_trylock(&pool.busy) != 0) {
        run_serially(begin, end, flush, body, context);
        return;
    }
    if (pool.workers < helpers)
        start_workers(helpers);
    leave_processor();

    pthread_mutex_lock(&pool.mutex);
    pool.flush = flush;
    pool.body = body;
    pool.context = context;
    pool.wanted = helpers;
    const int32_t count = helpers + 1;
    for (int32_t i = 0; i < count; i++) {
        atomic_store_explicit(&pool.ranges[i].next, begin + (end - begin) * i / count, memory_order_relaxed);
        pool.ranges[i].end = begin + (end - begin) * (i + 1) / count;
    }
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);

    work(0, count, flush, body, context);

    pthread_mutex_lock(&pool.mutex);
    pool.wanted = 0; /* a worker that wakes only now is not waited for */
    pthread_mutex_unlock(&pool.mutex);
    SPIN_WHILE(pool.active > 0)
    pthread_mutex_lock(&pool.mutex);
    while (pool.active > 0)
        pthread_cond_wait(&pool.done, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
    pthread_mutex_unlock(&pool.busy);
}
