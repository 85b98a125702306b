// Memory of tensors on the CPU, kept for the next of its size.
//
// libtorch asks the C library for each tensor's memory anew. In a step of training of a small model that was a tenth of the time: glibc cuts an
// aligned block out of a larger one each time and joins the pieces again, and pages that it gave back are filled with zeros anew. A step asks for
// the same sizes as the one before, so blocks are kept by their size here, up to a limit, and given back when a call of the library ends.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceType.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

namespace {

// libtorch's own alignment, which is also the room for a block's head.
constexpr size_t ALIGNED = 64;
// The largest block that is kept, and how much in all.
constexpr size_t LARGEST = size_t(8) << 20, MOST = size_t(96) << 20;

struct Head {
    size_t place;
    Head* next;
};

// Four sizes to each power of two, from 64 bytes to the largest.
constexpr size_t PLACES = 69, NONE = ~size_t(0);

size_t place_of(size_t bytes) {
    if (bytes > LARGEST) return NONE;
    if (bytes <= ALIGNED) return 0;
    size_t power = 63 - __builtin_clzl(bytes - 1);
    return (power - 6) * 4 + ((bytes - 1) >> (power - 2)) - 3;
}

size_t size_of(size_t place) { return place == 0 ? ALIGNED : (((place - 1) % 4) + 5) << ((place - 1) / 4 + 4); }

struct Store {
    std::mutex lock;
    std::array<Head*, PLACES> kept{};
    size_t bytes = 0;
};

// Never destroyed: tensors may be freed after the statics are.
Store& store() {
    static Store* store = new Store;
    return *store;
}

struct Keeping final : c10::Allocator {
    static void* take(size_t bytes) {
        size_t place = place_of(bytes);
        if (place != NONE) {
            auto& store = ::store();
            std::lock_guard<std::mutex> guard(store.lock);
            if (Head* head = store.kept[place]) {
                store.kept[place] = head->next;
                store.bytes -= size_of(place);
                return reinterpret_cast<char*>(head) + ALIGNED;
            }
            bytes = size_of(place);
        }
        void* block = nullptr;
        if (posix_memalign(&block, ALIGNED, bytes + ALIGNED) != 0) {
            TORCH_CHECK(false, "there is no memory for a tensor of ", bytes, " bytes");
        }
        new (block) Head{place, nullptr};
        return static_cast<char*>(block) + ALIGNED;
    }

    static void drop(void* data) {
        if (data == nullptr) return;
        auto head = reinterpret_cast<Head*>(static_cast<char*>(data) - ALIGNED);
        if (head->place != NONE) {
            auto& store = ::store();
            std::lock_guard<std::mutex> guard(store.lock);
            if (store.bytes + size_of(head->place) <= MOST) {
                head->next = store.kept[head->place];
                store.kept[head->place] = head;
                store.bytes += size_of(head->place);
                return;
            }
        }
        std::free(head);
    }

    c10::DataPtr allocate(size_t bytes) override {
        void* data = bytes == 0 ? nullptr : take(bytes);
        return {data, data, &drop, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &drop; }
    void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};

// Done when the library is loaded. Each block knows who frees it, those from before included.
const bool installed = [] {
    c10::SetCPUAllocator(new Keeping);
    return true;
}();

}  // namespace

// Gives all that is kept back to the C library.
extern "C" void ia2_give_back() {
    auto& store = ::store();
    std::lock_guard<std::mutex> guard(store.lock);
    for (auto& head : store.kept) {
        while (head) {
            Head* next = head->next;
            std::free(head);
            head = next;
        }
    }
    store.bytes = 0;
}
