// Tasks over threads, and their scratch memory.
//
// A team lasts for one call. It borrows threads from XLA's pool; those that come late or not at all are
// not waited for. No result depends on which thread does a task, so results are equal for every number of
// threads, bit for bit.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "vector.h"

namespace llm60 {

// Aligned memory, not initialised; freed with its owner.
template <class T>
class Array {
 public:
  explicit Array(size_t size) : data_(static_cast<T*>(::operator new(size * sizeof(T), ALIGNMENT))) {}
  operator T*() const { return data_.get(); }

 private:
  static constexpr std::align_val_t ALIGNMENT{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, ALIGNMENT); }
  };
  std::unique_ptr<T, Free> data_;
};

// What the calls report as evidence.
struct Counts {
  int64_t operations = 0;  // of products, two for each multiplication
  int64_t pairs = 0;       // (query, key) that attention allowed, over all heads and blocks
  int64_t dropped = 0;     // elements that dropout set to zero
};

// A thread's scratch memory and counts.
class alignas(64) Worker {
 public:
  // Memory until the end of the task.
  template <class T>
  T* take(size_t size) {
#if defined(__SANITIZE_ADDRESS__)  // which sees the bounds of allocations only
    return static_cast<T*>(static_cast<void*>(chunks_.emplace_back(size * sizeof(T))));
#endif
    const size_t bytes = round_up(size * sizeof(T), 64);
    if (used_ + bytes > size_) {
      size_ = bytes > 2 * size_ ? bytes : 2 * size_;
      chunks_.emplace_back(size_);
      used_ = 0;
    }
    void* p = chunks_.back() + used_;
    used_ += bytes;
    return static_cast<T*>(p);
  }
  void begin_task() {
    used_ = 0;
    if (chunks_.size() > 1) chunks_.erase(chunks_.begin(), chunks_.end() - 1);  // keep the largest
  }
  Counts counts;

 private:
  std::vector<Array<std::byte>> chunks_;
  size_t size_ = 0, used_ = 0;
};

class Team {
 public:
  using Schedule = std::function<void(std::function<void()>)>;

  // A team of at most `threads`, the caller included; `schedule` starts a function on another thread.
  Team(long threads, const Schedule& schedule) : shared_(std::make_shared<Shared>(threads)) {
    for (long number = 1; number < threads; number++)
      schedule([shared = shared_, number] { shared->follow(number); });
  }
  ~Team() { shared_->current.store(&shared_->end, std::memory_order_release); }
  Team(const Team&) = delete;

  // Call f(task, worker) for each task. Neighbouring tasks tend to run on one thread, whose cache they share.
  template <class F>
  void run(long tasks, const F& f) {
    const std::function<void(long, Worker&)> call = [&f](long task, Worker& worker) {
      worker.begin_task();
      f(task, worker);
    };
    Phase& phase = shared_->phases.emplace_back(tasks, shared_->threads, &call);
    shared_->current.store(&phase, std::memory_order_release);
    phase.work(0, shared_->workers[0]);
    for (Pause pause; phase.finished.load(std::memory_order_acquire) < tasks;) pause();
  }

  Counts counts() const {
    Counts all;
    for (const Worker& worker : shared_->workers) {
      all.operations += worker.counts.operations;
      all.pairs += worker.counts.pairs;
      all.dropped += worker.counts.dropped;
    }
    return all;
  }

 private:
  // Wait in a loop, and leave the core to others after some tenths of a millisecond.
  class Pause {
   public:
    void operator()() {
      if (++rounds_ > 16384) std::this_thread::sleep_for(std::chrono::microseconds(50));
#if defined(__x86_64__)
      _mm_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }

   private:
    long rounds_ = 0;
  };

  // One call of `run`. Every thread begins with its own share of the tasks, then takes those of others.
  // A phase stays in memory until the call ends, so a thread that comes late finds it empty.
  struct Phase {
    Phase(long tasks, long threads, const std::function<void(long, Worker&)>* f)
        : tasks(tasks), threads(threads), f(f), next(threads) {
      for (long i = 0; i < threads; i++) next[i].store(i * tasks / threads, std::memory_order_relaxed);
    }
    void work(long number, Worker& worker) {
      for (long i = 0; i < threads; i++) {
        const long share = (number + i) % threads, end = (share + 1) * tasks / threads;
        for (long task; (task = next[share].fetch_add(1, std::memory_order_relaxed)) < end;) {
          (*f)(task, worker);
          finished.fetch_add(1, std::memory_order_release);
        }
      }
    }
    const long tasks, threads;
    const std::function<void(long, Worker&)>* const f;
    std::vector<std::atomic<long>> next;
    std::atomic<long> finished{0};
  };

  struct Shared {
    explicit Shared(long threads) : threads(threads), workers(threads) {}
    void follow(long number) {
      Phase* seen = nullptr;
      for (Pause pause;; pause()) {
        Phase* phase = current.load(std::memory_order_acquire);
        if (phase == &end) return;
        if (phase == seen) continue;
        seen = phase;
        phase->work(number, workers[number]);
        pause = Pause();
      }
    }
    const long threads;
    std::vector<Worker> workers;
    std::deque<Phase> phases;
    Phase end{0, 1, nullptr};
    std::atomic<Phase*> current{nullptr};
  };

  std::shared_ptr<Shared> shared_;
};

}  // namespace llm60
