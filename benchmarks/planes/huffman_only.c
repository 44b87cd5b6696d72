/* An encoder that decision 11 measured and did not take: a plane of exponents as a zstd frame of literals alone, with one
 * Huffman tree (RFC 8878, 3.1.1.3.1 and 4.2). Any zstd decodes what it writes. For `make bench-planes`, and no other use: it
 * takes whole blocks, and values up to 128, which the short form of a tree can say.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MOST_BITS = 11, BLOCK = 128 << 10, SYMBOLS = 256, STREAMS = 4 };

/* A code: its bits, and behind them in the low byte how many they are. Two in a row are one too, in `pairs`. */
static uint32_t singles[SYMBOLS], pairs[SYMBOLS * SYMBOLS];

static void
count_bytes(const uint8_t *plane, size_t size, uint32_t *count)
{
    /* Four tables, so that equal neighbours do not wait for each other. */
    static uint32_t tables[4][SYMBOLS];
    memset(tables, 0, sizeof tables);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t eight;
        memcpy(&eight, plane + i, 8);
        for (int n = 0; n < 8; n++) {
            tables[n % 4][eight >> 8 * n & 0xFF]++;
        }
    }
    for (; i < size; i++) {
        tables[0][plane[i]]++;
    }
    for (int s = 0; s < SYMBOLS; s++) {
        count[s] = tables[0][s] + tables[1][s] + tables[2][s] + tables[3][s];
    }
}

/* Package-merge (Larmore and Hirschberg 1990): the best code lengths of at most MOST_BITS. Returns how many symbols. */
static int
choose_lengths(const uint32_t *count, uint8_t *length)
{
    static uint32_t weights[MOST_BITS][2 * SYMBOLS], packages[SYMBOLS];
    static uint8_t is_leaf[MOST_BITS][2 * SYMBOLS];
    int symbols[SYMBOLS], n = 0, packed = 0;
    memset(length, 0, SYMBOLS);
    for (int s = 0; s < SYMBOLS; s++) {
        if (count[s]) {
            int at = n++;
            for (; at && count[symbols[at - 1]] > count[s]; at--) {
                symbols[at] = symbols[at - 1];
            }
            symbols[at] = s;
        }
    }
    for (int level = 0; level < MOST_BITS; level++) {
        int leaf = 0, package = 0, items = 0;
        while (leaf < n || package < packed) {
            int take_leaf = package >= packed || (leaf < n && count[symbols[leaf]] <= packages[package]);
            is_leaf[level][items] = (uint8_t)take_leaf;
            weights[level][items++] = take_leaf ? count[symbols[leaf++]] : packages[package++];
        }
        packed = items / 2;
        for (int i = 0; i < packed; i++) {
            packages[i] = weights[level][2 * i] + weights[level][2 * i + 1];
        }
    }
    for (int level = MOST_BITS - 1, taken = 2 * n - 2; level >= 0 && n > 1; level--) {
        int leaves = 0;
        for (int i = 0; i < taken; i++) {
            leaves += is_leaf[level][i];
        }
        for (int i = 0; i < leaves; i++) {
            length[symbols[i]]++;
        }
        taken = 2 * (taken - leaves);
    }
    return n;
}

/* Codes in the order of RFC 8878, 4.2.1.3: the longest first, of one length by symbol. */
static void
make_codes(const uint8_t *length, int longest)
{
    uint32_t next[MOST_BITS + 2] = {0}, code = 0;
    int used[SYMBOLS], n = 0;
    for (int bits = longest; bits > 0; bits--) {
        next[bits] = code;
        for (int s = 0; s < SYMBOLS; s++) {
            code += length[s] == bits;
        }
        code >>= 1;
    }
    for (int s = 0; s < SYMBOLS; s++) {
        if (length[s]) {
            singles[s] = next[length[s]]++ << 8 | length[s];
            used[n++] = s;
        }
    }
    for (int a = 0; a < n; a++) {
        for (int b = 0; b < n; b++) {
            /* A stream is written from its end, so the byte at the higher address comes first. */
            uint32_t first = singles[used[b]], second = singles[used[a]];
            uint32_t bits = first >> 8 | second >> 8 << (first & 0xFF);
            pairs[used[b] << 8 | used[a]] = bits << 8 | ((first & 0xFF) + (second & 0xFF));
        }
    }
}

static uint8_t *
write_stream(uint8_t *out, const uint8_t *plane, size_t size)
{
    uint64_t waiting = 0;
    uint32_t bits = 0;
#define PUT(entry) (waiting |= (uint64_t)((entry) >> 8) << bits, bits += (entry) & 0xFF)
#define FLUSH() (memcpy(out, &waiting, 8), out += bits >> 3, waiting >>= bits & ~7u, bits &= 7)
    while (size & 7) {
        PUT(singles[plane[--size]]);
        FLUSH();
    }
    while (size) {
        uint64_t eight;
        memcpy(&eight, plane + (size -= 8), 8);
        PUT(pairs[eight >> 48]);
        PUT(pairs[eight >> 32 & 0xFFFF]);
        FLUSH();
        PUT(pairs[eight >> 16 & 0xFFFF]);
        PUT(pairs[eight & 0xFFFF]);
        FLUSH();
    }
    PUT(1u << 8 | 1);
    memcpy(out, &waiting, 8);
    return out + ((bits + 7) >> 3);
}

static uint8_t *
write_tree(uint8_t *out, const uint8_t *length, int last, int longest)
{
    *out++ = (uint8_t)(127 + last);
    for (int s = 0; s < last; s += 2) {
        int high = length[s] ? longest + 1 - length[s] : 0;
        int low = s + 1 < last && length[s + 1] ? longest + 1 - length[s + 1] : 0;
        *out++ = (uint8_t)(high << 4 | low);
    }
    return out;
}

/* Returns the length of the frame; 0 if the plane is not of whole blocks, has fewer than two values, or one over 128. */
size_t
encode_plane(const uint8_t *plane, size_t size, uint8_t *out)
{
    uint32_t count[SYMBOLS];
    uint8_t length[SYMBOLS], *begin = out;
    count_bytes(plane, size, count);
    int last = SYMBOLS - 1, longest = 0;
    if (size == 0 || size % BLOCK || choose_lengths(count, length) < 2) {
        return 0;
    }
    while (!length[last]) {
        last--;
    }
    if (last > 128) {
        return 0;
    }
    for (int s = 0; s <= last; s++) {
        longest = length[s] > longest ? length[s] : longest;
    }
    make_codes(length, longest);
    const uint8_t head[] = {0x28, 0xB5, 0x2F, 0xFD, 0xE0};
    uint64_t wide = size;
    memcpy(out, head, 5);
    memcpy(out + 5, &wide, 8);
    out += 13;
    for (size_t start = 0; start < size; start += BLOCK) {
        size_t part = size - start < BLOCK ? size - start : BLOCK, segment = (part + 3) / 4;
        uint8_t *block = out, *literals = out + 3, *coded = out + 8;
        out = start ? coded : write_tree(coded, length, last, longest);
        uint8_t *jumps = out;
        out += 6;
        for (int stream = 0; stream < STREAMS; stream++) {
            uint8_t *before = out;
            size_t here = stream < 3 ? segment : part - 3 * segment;
            out = write_stream(out, plane + start + (size_t)stream * segment, here);
            uint16_t took = (uint16_t)(out - before);
            if (stream < 3) {
                memcpy(jumps + 2 * stream, &took, 2);
            }
        }
        /* Compressed literals, or treeless ones; four streams, sizes of 18 bits; then no sequences. */
        uint64_t header = (start ? 3u : 2u) | 3u << 2 | (uint64_t)part << 4 | (uint64_t)(out - coded) << 22;
        memcpy(literals, &header, 5);
        *out++ = 0;
        uint32_t lead = (uint32_t)(out - literals) << 3 | 2u << 1 | (start + part >= size);
        memcpy(block, &lead, 3);
    }
    return (size_t)(out - begin);
}
