// A memory and a host around the Verilog of the accelerator: a C++ loop, no Python in a cycle.
//
// Memory is a file mapped by this program and by the one that starts it. Commands come on standard
// input, a line each, and are answered with a line on standard output:
//
//   read OFFSET            AXI4-Lite read               -> value
//   write OFFSET VALUE     AXI4-Lite write              -> response code
//   wait CYCLES            until the interrupt, at most -> cycles that passed, the interrupt
//   step CYCLES            let so many cycles pass      -> cycles that passed
//   pause SHARE SEED       every channel waits in so many of 256 cycles, at random  -> ok
//   bandwidth BYTES        a cycle, for all channels together, on average; 0: a beat a cycle for
//                          each                                                     -> ok
//   latency CYCLES         from a read's address to its first beat                  -> ok
//   fault BEGIN END        addresses that answer SLVERR                             -> ok
//   beats                  -> beats moved by the channels index, outlier, act, result, job
//   cycle                  -> cycles since reset

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr unsigned kBeatBytes = BEAT_BYTES;
constexpr unsigned kOkay = 0, kSlaveError = 2;
constexpr unsigned kBurstsQueued = 32;

struct Burst {
    uint64_t address;
    unsigned beats;
    uint64_t due;  // cycle from which it is served
};

// What all channels share: the bytes, the bad addresses, the bandwidth, the dice.
struct Memory {
    uint8_t* bytes = nullptr;
    uint64_t size = 0;
    uint64_t bad_begin = 0, bad_end = 0;
    uint64_t cycle = 0, latency = 1;
    uint64_t beats[5] = {};
    // Channels take what they move from one bucket, which `bandwidth` bytes are put back into in
    // every cycle; it holds no more than those of a cycle. What is taken beyond them is owed.
    uint64_t bandwidth = 0;  // 0: no bound
    uint64_t debt = 0;       // bytes
    unsigned pause = 0;
    uint64_t dice = 1;

    bool good(uint64_t address) const {
        return address + kBeatBytes <= size && !(address >= bad_begin && address < bad_end);
    }
    bool waits() {  // xorshift
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        return (dice >> 32 & 255) < pause;
    }
    bool may_offer() const { return !bandwidth || debt < bandwidth; }
    void moved(int channel) {
        ++beats[channel];
        if (bandwidth) debt += kBeatBytes;
    }
    void tick() {
        ++cycle;
        debt -= std::min(debt, bandwidth);
    }
};

[[noreturn]] void broken(const char* rule) {
    std::printf("broken %s\n", rule);
    std::fflush(stdout);
    std::exit(3);
}

void check_burst(uint64_t address, unsigned beats, unsigned size, unsigned type) {
    if (address % kBeatBytes) broken("address is not on a beat");
    if (1u << size != kBeatBytes) broken("size is not that of a beat");
    if (type != 1) broken("burst is not INCR");
    if (address / 4096 != (address + uint64_t{beats} * kBeatBytes - 1) / 4096)
        broken("burst crosses 4096 bytes");
}

// The slave of a read channel. `ports()` gives references, whatever Verilator made of their widths.
template <class Addr, class Data>
struct ReadChannel {
    int number;
    CData &arvalid, &arready;
    Addr& araddr;
    CData &arlen, &arsize, &arburst;
    CData &rvalid, &rready;
    Data& rdata;
    CData &rresp, &rlast;
    std::deque<Burst> bursts{};
    unsigned at = 0;
    bool offering = false;

    void drive(Memory& memory) {
        arready = bursts.size() < kBurstsQueued && !memory.waits();
        if (!offering)
            offering = !bursts.empty() && bursts.front().due <= memory.cycle &&
                       memory.may_offer() && !memory.waits();
        rvalid = offering;
        if (!offering) return;
        const Burst& burst = bursts.front();
        const uint64_t address = burst.address + uint64_t{at} * kBeatBytes;
        const bool good = memory.good(address);
        if (good)
            std::memcpy(&rdata, memory.bytes + address, kBeatBytes);
        else
            std::memset(&rdata, 0xA5, kBeatBytes);
        rresp = good ? kOkay : kSlaveError;
        rlast = at + 1 == burst.beats;
    }

    void sample(Memory& memory) {
        if (arvalid && arready) {
            check_burst(araddr, arlen + 1u, arsize, arburst);
            bursts.push_back({araddr, arlen + 1u, memory.cycle + memory.latency});
        }
        if (rvalid && rready) {
            memory.moved(number);
            offering = false;
            if (++at == bursts.front().beats) bursts.pop_front(), at = 0;
        }
    }
};

template <class Addr, class Data, class Strobe>
struct WriteChannel {
    int number;
    CData &awvalid, &awready;
    Addr& awaddr;
    CData &awlen, &awsize, &awburst;
    CData &wvalid, &wready;
    Data& wdata;
    Strobe& wstrb;
    CData &wlast, &bvalid, &bready, &bresp;
    std::deque<Burst> bursts{};
    std::deque<Burst> answers{};  // `beats` is the response
    unsigned at = 0;
    bool good = true, answering = false;

    void drive(Memory& memory) {
        awready = bursts.size() < kBurstsQueued && !memory.waits();
        wready = !bursts.empty() && memory.may_offer() && !memory.waits();
        if (!answering)
            answering = !answers.empty() && answers.front().due <= memory.cycle && !memory.waits();
        bvalid = answering;
        if (answering) bresp = answers.front().beats;
    }

    void sample(Memory& memory) {
        if (wvalid && wready) {
            const Burst& burst = bursts.front();
            const uint64_t address = burst.address + uint64_t{at} * kBeatBytes;
            if (memory.good(address)) {
                const auto* data = reinterpret_cast<const uint8_t*>(&wdata);
                const uint64_t keep = wstrb;
                for (unsigned n = 0; n < kBeatBytes; ++n)
                    if (keep >> n & 1) memory.bytes[address + n] = data[n];
            } else {
                good = false;
            }
            memory.moved(number);
            if (bool(wlast) != (at + 1 == burst.beats)) broken("wlast is not with the last beat");
            if (++at == burst.beats) {
                answers.push_back({0, good ? kOkay : kSlaveError, memory.cycle + memory.latency});
                bursts.pop_front(), at = 0, good = true;
            }
        }
        if (awvalid && awready) {
            check_burst(awaddr, awlen + 1u, awsize, awburst);
            bursts.push_back({awaddr, awlen + 1u, 0});
        }
        if (bvalid && bready) answers.pop_front(), answering = false;
    }
};

template <class A, class D>
ReadChannel(int, CData&, CData&, A&, CData&, CData&, CData&, CData&, CData&, D&, CData&, CData&)
    -> ReadChannel<A, D>;
template <class A, class D, class S>
WriteChannel(int, CData&, CData&, A&, CData&, CData&, CData&, CData&, CData&, D&, S&, CData&,
             CData&, CData&, CData&) -> WriteChannel<A, D, S>;

#define READ_CHANNEL(number, name)                                                            \
    ReadChannel {                                                                             \
        number, top->m_axi_##name##_arvalid, top->m_axi_##name##_arready,                     \
            top->m_axi_##name##_araddr, top->m_axi_##name##_arlen, top->m_axi_##name##_arsize, \
            top->m_axi_##name##_arburst, top->m_axi_##name##_rvalid,                          \
            top->m_axi_##name##_rready, top->m_axi_##name##_rdata, top->m_axi_##name##_rresp, \
            top->m_axi_##name##_rlast                                                         \
    }

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: driver MEMORY\n");
        return 2;
    }
    Memory memory;
    const int file = open(argv[1], O_RDWR);
    struct stat about {};
    if (file < 0 || fstat(file, &about) != 0) {
        std::perror(argv[1]);
        return 2;
    }
    memory.size = about.st_size;
    void* const map = mmap(nullptr, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        std::perror(argv[1]);
        return 2;
    }
    memory.bytes = static_cast<uint8_t*>(map);

    const auto context = std::make_unique<VerilatedContext>();
    context->randReset(2);  // registers without a reset value start as anything
    const auto top = std::make_unique<Vtop>(context.get());
    ReadChannel index = READ_CHANNEL(0, index);
    ReadChannel outlier = READ_CHANNEL(1, outlier);
    ReadChannel act = READ_CHANNEL(2, act);
    ReadChannel job = READ_CHANNEL(4, job);
    WriteChannel result{3,
                        top->m_axi_result_awvalid, top->m_axi_result_awready,
                        top->m_axi_result_awaddr,  top->m_axi_result_awlen,
                        top->m_axi_result_awsize,  top->m_axi_result_awburst,
                        top->m_axi_result_wvalid,  top->m_axi_result_wready,
                        top->m_axi_result_wdata,   top->m_axi_result_wstrb,
                        top->m_axi_result_wlast,   top->m_axi_result_bvalid,
                        top->m_axi_result_bready,  top->m_axi_result_bresp};

    const auto cycle = [&] {
        top->aclk = 0;
        index.drive(memory), outlier.drive(memory), act.drive(memory), job.drive(memory);
        result.drive(memory);
        top->eval();
        // Handshakes of the host are looked at by its functions between the two halves.
    };
    const auto edge = [&] {
        index.sample(memory), outlier.sample(memory), act.sample(memory), job.sample(memory);
        result.sample(memory);
        memory.tick();
        top->aclk = 1;
        top->eval();
    };
    const auto pass = [&] { cycle(), edge(); };

    top->aresetn = 0;
    top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_bready = 0;
    top->s_axil_arvalid = top->s_axil_rready = 0;
    index.rvalid = outlier.rvalid = act.rvalid = job.rvalid = result.bvalid = 0;
    for (int n = 0; n < 8; ++n) {  // no channel moves in reset
        top->aclk = 0, top->eval(), top->aclk = 1, top->eval();
    }
    top->aresetn = 1;

    const auto host_read = [&](uint32_t offset, uint32_t& value) {
        top->s_axil_araddr = offset, top->s_axil_arvalid = 1, top->s_axil_rready = 1;
        for (int n = 0; n < 1000; ++n) {
            cycle();
            const bool taken = top->s_axil_arvalid && top->s_axil_arready;
            const bool given = top->s_axil_rvalid;
            value = top->s_axil_rdata;
            edge();
            if (taken) top->s_axil_arvalid = 0;
            if (given) {
                top->s_axil_rready = 0;
                return true;
            }
        }
        return false;
    };
    const auto host_write = [&](uint32_t offset, uint32_t value, unsigned& response) {
        top->s_axil_awaddr = offset, top->s_axil_awvalid = 1;
        top->s_axil_wdata = value, top->s_axil_wstrb = 15, top->s_axil_wvalid = 1;
        top->s_axil_bready = 1;
        for (int n = 0; n < 1000; ++n) {
            cycle();
            const bool address = top->s_axil_awvalid && top->s_axil_awready;
            const bool data = top->s_axil_wvalid && top->s_axil_wready;
            const bool given = top->s_axil_bvalid;
            response = top->s_axil_bresp;
            edge();
            if (address) top->s_axil_awvalid = 0;
            if (data) top->s_axil_wvalid = 0;
            if (given) {
                top->s_axil_bready = 0;
                return true;
            }
        }
        return false;
    };

    char line[256];
    while (std::fgets(line, sizeof line, stdin)) {
        uint64_t a = 0, b = 0;
        unsigned response = 0;
        uint32_t value = 0;
        char word[32] = {};
        std::sscanf(line, "%31s %" SCNu64 " %" SCNu64, word, &a, &b);
        const auto is = [&](const char* name) { return std::strcmp(word, name) == 0; };
        if (is("read")) {
            if (!host_read(a, value)) broken("a read of a register has no answer");
            std::printf("%" PRIu32 "\n", value);
        } else if (is("write")) {
            if (!host_write(a, b, response)) broken("a write of a register has no answer");
            std::printf("%u\n", response);
        } else if (is("wait")) {
            uint64_t n = 0;
            while (n < a && !top->irq) pass(), ++n;
            std::printf("%" PRIu64 " %d\n", n, int(top->irq));
        } else if (is("step")) {
            for (uint64_t n = 0; n < a; ++n) pass();
            std::printf("%" PRIu64 "\n", a);
        } else if (is("pause")) {
            memory.pause = a, memory.dice = b | 1;
            std::puts("ok");
        } else if (is("bandwidth")) {
            memory.bandwidth = a, memory.debt = 0;
            std::puts("ok");
        } else if (is("latency")) {
            memory.latency = a;
            std::puts("ok");
        } else if (is("fault")) {
            memory.bad_begin = a, memory.bad_end = b;
            std::puts("ok");
        } else if (is("beats")) {
            for (const uint64_t count : memory.beats) std::printf("%" PRIu64 " ", count);
            std::puts("");
        } else if (is("cycle")) {
            std::printf("%" PRIu64 "\n", memory.cycle);
        } else {
            std::printf("unknown %s", line);
        }
        std::fflush(stdout);
    }
    top->final();
    return 0;
}
