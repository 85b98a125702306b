// Threads of libtorch that sleep while they wait, in a process that nobody has told so.
//
// GNU's OpenMP lets a waiting thread spin for 3 ms before it sleeps. Where other work wants the processors, the thread that is waited for does
// not run meanwhile, and a step of training took 17 times the processor time. OMP_WAIT_POLICY=passive would stop it, but is read when OpenMP is
// loaded, which is before any code of this library runs. What can be done later: OpenMP spins a hundred times at most, a microsecond, where it
// manages more threads than there are processors (GOMP_SPINCOUNT in its manual). So a thread makes that many, which sleep to the end of the process.

#include <atomic>
#include <cstdlib>
#include <signal.h>
#include <thread>
#include <unistd.h>

extern "C" {
void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned flags);
int omp_get_num_procs();

// Does it, once, unless the environment says how threads shall wait.
void ia2_let_threads_sleep() {
    static std::atomic<bool> done{false};
    if (done.exchange(true) || std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
    // Signals are for threads that somebody knows of; a new thread has its maker's mask.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        std::atomic<bool> made{false};
        std::thread([&made] {
            // One for each processor, and this one.
            GOMP_parallel([](void*) {}, nullptr, static_cast<unsigned>(omp_get_num_procs()) + 1, 0);
            made = true;
            for (;;) pause();
        }).detach();
        while (!made) usleep(50);
    } catch (...) {
        // No thread can be made: then waiting threads spin.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
}
