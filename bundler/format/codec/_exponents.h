/* A plane of exponents to a zstd frame of literals alone, as FORMAT.md, "Planes of exponents", says; `exponents.py` does
 * the same in numpy. Nothing of Python's.
 *
 * Whatever is in the plane, only the plane is read and only `out` is written: a block is copied before it is looked at, so
 * that nobody changes it meanwhile; its values are indices of tables for all values; and it is coded in memory for the
 * longest one there is before it is copied out.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    BLOCK_BYTES = 128 << 10,
    CODED_FROM = 1024,  /* a shorter last block is stored */
    MOST_BITS = 11,     /* of a code: RFC 8878, 4.2.1 */
    MOST_VALUE = 128,   /* that the direct form of a tree can say: RFC 8878, 4.2.1.1 */
    VALUES = MOST_VALUE + 1,
    SAMPLE_BYTES = 64,
    SAMPLE_STEP = 512,  /* so an eighth is counted */
    SAMPLES = BLOCK_BYTES / SAMPLE_STEP,
    QUARTERS = 4,
    GROUP_BLOCKS = 16,  /* among whose samples repeats are looked for: a chunk of ours */
    WINDOW_BYTES = 16,
    PLACES = 2 * GROUP_BLOCKS * SAMPLES,
    REPEATS_SHARE = 32,
    MOST_APART = 40,    /* values of a block that is sampled */
    ROW = 256,
};

/* What a call works in: too much for a stack. `pairs` has at [b][a] the codes of b, and behind them of a, where a stands before b
 * in the plane: a stream begins with the last byte. A code is in the highest bits, and its length in the low byte. */
typedef struct {
    uint64_t pairs[VALUES * ROW];
    uint64_t singles[VALUES];
    uint32_t quarters[QUARTERS][ROW];
    uint64_t windows[GROUP_BLOCKS * SAMPLES][WINDOW_BYTES / 8];
    uint32_t places[PLACES]; /* of a hash table: one more than the number of a window, or 0 */
    uint32_t distinct, looked_at;
    uint8_t block[BLOCK_BYTES];
    uint32_t weights[2 * VALUES];
    uint8_t leaves[MOST_BITS][2 * VALUES];
    uint8_t coded[16 + VALUES + BLOCK_BYTES / 8 * MOST_BITS + 4 * 8];
} Scratch;

/* Squares, so that no length of a row makes all samples be of the same columns. */
static size_t
sample_start(size_t number)
{
    size_t start = number * SAMPLE_STEP + 197 * number * number % 509, most = BLOCK_BYTES - SAMPLE_BYTES;
    return start < most ? start : most;
}

/* Quarter by quarter, and by turns, so that equal neighbours do not wait for each other. */
static void
count_samples(Scratch *scratch, const uint8_t *block)
{
    for (size_t number = 0; number < SAMPLES / QUARTERS; number++) {
        size_t starts[QUARTERS];
        for (size_t quarter = 0; quarter < QUARTERS; quarter++) {
            starts[quarter] = sample_start(quarter * (SAMPLES / QUARTERS) + number);
        }
        for (size_t i = 0; i < SAMPLE_BYTES; i += 8) {
            uint64_t eights[QUARTERS];
            for (size_t quarter = 0; quarter < QUARTERS; quarter++) {
                memcpy(&eights[quarter], block + starts[quarter] + i, 8);
            }
            for (int n = 0; n < 8; n++) {
                for (size_t quarter = 0; quarter < QUARTERS; quarter++) {
                    scratch->quarters[quarter][eights[quarter] >> 8 * n & 0xFF]++;
                }
            }
        }
    }
}

static void
count_all(Scratch *scratch, const uint8_t *block, size_t size)
{
    size_t quarter_bytes = (size + 3) / 4;
    for (size_t i = 0; i < quarter_bytes; i++) {
        for (size_t quarter = 0; quarter < QUARTERS; quarter++) {
            size_t at = quarter * quarter_bytes + i;
            if (at < size) {
                scratch->quarters[quarter][block[at]]++;
            }
        }
    }
}

/* Whether one code suits all quarters: none differs from the whole in more than half of its bytes. */
static int
are_alike(const Scratch *scratch, const uint32_t *counts, uint32_t sum)
{
    for (int quarter = 0; quarter < QUARTERS; quarter++) {
        uint32_t apart = 0;
        for (int value = 0; value < VALUES; value++) {
            uint32_t here = QUARTERS * scratch->quarters[quarter][value], all = counts[value];
            apart += here > all ? here - all : all - here;
        }
        if (apart > sum / 2) {
            return 0;
        }
    }
    return 1;
}

/* Note the first bytes of each sample of the block, and whether some sample of the group had the same. */
static void
look_for_repeats(Scratch *scratch, const uint8_t *block)
{
    for (size_t number = 0; number < SAMPLES; number++) {
        uint64_t window[WINDOW_BYTES / 8];
        memcpy(window, block + sample_start(number), WINDOW_BYTES);
        uint64_t hash = (window[0] * 0x9E3779B97F4A7C15u ^ window[1]) * 0xC2B2AE3D27D4EB4Fu;
        size_t place = (size_t)(hash >> 32) % PLACES;
        scratch->looked_at++;
        for (;; place = (place + 1) % PLACES) {
            uint32_t there = scratch->places[place];
            if (there == 0) {
                memcpy(scratch->windows[scratch->distinct], window, WINDOW_BYTES);
                scratch->places[place] = ++scratch->distinct;
                break;
            }
            if (scratch->windows[there - 1][0] == window[0] && scratch->windows[there - 1][1] == window[1]) {
                break;
            }
        }
    }
}

static int
has_repeats(const Scratch *scratch)
{
    return scratch->looked_at - scratch->distinct > scratch->looked_at / REPEATS_SHARE;
}

/* How often each value occurs, or about so. Returns the greatest value; -1 where the block is not for this code. */
static int
count_values(Scratch *scratch, const uint8_t *block, size_t size, uint32_t *counts)
{
    uint8_t smallest = 0xFF, below = 0xFF, most = 0; /* `below`: one less than the least that is not zero */
    for (size_t i = 0; i < size; i++) {
        uint8_t less = (uint8_t)(block[i] - 1);
        smallest = block[i] < smallest ? block[i] : smallest;
        below = less < below ? less : below;
        most = block[i] > most ? block[i] : most;
    }
    memset(counts, 0, VALUES * sizeof *counts);
    if (most > MOST_VALUE || most == 0) {
        return -1;
    }
    memset(scratch->quarters, 0, sizeof scratch->quarters);
    int least = below + 1, is_sampled = size == BLOCK_BYTES && most - least <= MOST_APART;
    if (is_sampled) {
        count_samples(scratch, block);
    }
    else {
        count_all(scratch, block, size);
    }
    uint32_t sum = 0, largest = 0;
    for (int value = 0; value <= most; value++) {
        for (int quarter = 0; quarter < QUARTERS; quarter++) {
            counts[value] += scratch->quarters[quarter][value];
        }
        sum += counts[value];
        largest = counts[value] > largest ? counts[value] : largest;
    }
    if (largest > sum / 2 || !are_alike(scratch, counts, sum)) {
        return -1;
    }
    for (int value = 0; is_sampled && value <= most; value++) {
        counts[value] = counts[value] * (SAMPLE_STEP / SAMPLE_BYTES) + (value >= least || (value == 0 && smallest == 0));
    }
    return most;
}

/* Package-merge (Larmore and Hirschberg, 1990): the lengths, at most MOST_BITS, that make the shortest code. Of equal
 * weights the lower value comes first, and a value before a package. */
static void
choose_lengths(Scratch *scratch, const uint32_t *counts, int most, uint8_t *lengths)
{
    uint8_t values[VALUES];
    uint32_t packages[VALUES];
    int n = 0, packed = 0;
    memset(lengths, 0, VALUES);
    for (int value = 0; value <= most; value++) {
        if (counts[value]) {
            int at = n++;
            for (; at && counts[values[at - 1]] > counts[value]; at--) {
                values[at] = values[at - 1];
            }
            values[at] = (uint8_t)value;
        }
    }
    for (int level = 0; level < MOST_BITS; level++) {
        int leaf = 0, package = 0, items = 0;
        while (leaf < n || package < packed) {
            int is_leaf = package >= packed || (leaf < n && counts[values[leaf]] <= packages[package]);
            scratch->leaves[level][items] = (uint8_t)is_leaf;
            scratch->weights[items++] = is_leaf ? counts[values[leaf++]] : packages[package++];
        }
        packed = items / 2;
        for (int i = 0; i < packed; i++) {
            packages[i] = scratch->weights[2 * i] + scratch->weights[2 * i + 1];
        }
    }
    for (int level = MOST_BITS - 1, taken = 2 * n - 2; level >= 0; level--) {
        int leaves = 0;
        for (int i = 0; i < taken; i++) {
            leaves += scratch->leaves[level][i];
        }
        for (int i = 0; i < leaves; i++) {
            lengths[values[i]]++;
        }
        taken = 2 * (taken - leaves);
    }
}

/* Codes in the order of RFC 8878, 4.2.1.3: the longest first, of one length by value. */
static void
make_codes(Scratch *scratch, const uint8_t *lengths, int most, int longest)
{
    uint64_t next[MOST_BITS + 1] = {0}, code = 0;
    uint8_t used[VALUES];
    int n = 0;
    for (int bits = longest; bits > 0; bits--) {
        next[bits] = code;
        for (int value = 0; value <= most; value++) {
            code += lengths[value] == bits;
        }
        code >>= 1;
    }
    for (int value = 0; value <= most; value++) {
        if (lengths[value]) {
            scratch->singles[value] = next[lengths[value]]++ << (64 - lengths[value]) | lengths[value];
            used[n++] = (uint8_t)value;
        }
    }
    for (int b = 0; b < n; b++) {
        uint64_t first = scratch->singles[used[b]];
        for (int a = 0; a < n; a++) {
            uint64_t second = scratch->singles[used[a]];
            uint64_t codes = (first & ~(uint64_t)0xFF) >> (second & 0xFF) | (second & ~(uint64_t)0xFF);
            scratch->pairs[used[b] * ROW + used[a]] = codes | ((first & 0xFF) + (second & 0xFF));
        }
    }
}

/* Bits that are not written yet are the highest of `waiting`; the low byte of `bits` says how many. What stands below them, and
 * above it, is of no meaning: an entry is added as it is. */

#define PUT(entry) (waiting = waiting >> ((entry) & 0x3F) | (entry), bits += (entry))
#define FLUSH() (eight = waiting >> (64 - (bits & 0x3F)), memcpy(out, &eight, 8), out += (bits & 0xFF) >> 3, bits &= 7)

/* RFC 8878, 4.2.2: from the last byte to the first, and a one behind them. Writes up to 8 bytes more than it returns. */
static uint8_t *
write_stream(const Scratch *scratch, uint8_t *out, const uint8_t *part, size_t size)
{
    uint64_t waiting = 0, bits = 0, eight;
    for (; size & 7; size--) {
        uint64_t entry = scratch->singles[part[size - 1]];
        PUT(entry);
        FLUSH();
    }
    for (; size; size -= 8) {
        uint64_t these, entry;
        memcpy(&these, part + size - 8, 8);
        entry = scratch->pairs[these >> 48];
        PUT(entry);
        entry = scratch->pairs[these >> 32 & 0xFFFF];
        PUT(entry);
        FLUSH();
        entry = scratch->pairs[these >> 16 & 0xFFFF];
        PUT(entry);
        entry = scratch->pairs[these & 0xFFFF];
        PUT(entry);
        FLUSH();
    }
    const uint64_t end = (uint64_t)1 << 63 | 1;
    PUT(end);
    eight = waiting >> (64 - (bits & 0x3F));
    memcpy(out, &eight, 8);
    return out + (((bits & 0xFF) + 7) >> 3);
}

#undef PUT
#undef FLUSH

/* RFC 8878, 4.2.1.1, the direct form. */
static uint8_t *
write_tree(uint8_t *out, const uint8_t *lengths, int most, int longest)
{
    *out++ = (uint8_t)(127 + most);
    for (int value = 0; value < most; value += 2) {
        int high = lengths[value] ? longest + 1 - lengths[value] : 0;
        int low = value + 1 < most && lengths[value + 1] ? longest + 1 - lengths[value + 1] : 0;
        *out++ = (uint8_t)(high << 4 | low);
    }
    return out;
}

/* The content of a compressed block (RFC 8878, 3.1.1.3.1): a tree, four streams, no sequences. Returns its length in
 * `scratch->coded`; 0 where the block is not for this code. */
static size_t
code_block(Scratch *scratch, const uint8_t *block, size_t size)
{
    uint32_t counts[VALUES];
    uint8_t lengths[VALUES];
    int most = count_values(scratch, block, size, counts), longest = 0;
    if (most < 0) {
        return 0;
    }
    choose_lengths(scratch, counts, most, lengths);
    for (int value = 0; value <= most; value++) {
        longest = lengths[value] > longest ? lengths[value] : longest;
    }
    make_codes(scratch, lengths, most, longest);
    uint8_t *coded = scratch->coded + 5, *jumps = write_tree(coded, lengths, most, longest), *out = jumps + 6;
    size_t quarter = (size + 3) / 4;
    for (int stream = 0; stream < 4; stream++) {
        uint8_t *before = out;
        out = write_stream(scratch, out, block + (size_t)stream * quarter, stream < 3 ? quarter : size - 3 * quarter);
        uint16_t took = (uint16_t)(out - before);
        if (stream < 3) {
            memcpy(jumps + 2 * stream, &took, 2);
        }
    }
    /* Compressed literals in four streams, sizes of 18 bits. */
    uint64_t header = 2u | 3u << 2 | (uint64_t)size << 4 | (uint64_t)(out - coded) << 22;
    memcpy(scratch->coded, &header, 5);
    *out++ = 0;
    return (size_t)(out - scratch->coded);
}

/* A frame's length where its content is stored: `frames.py:stored_frame_bytes`. */
static size_t
stored_frame_bytes(size_t size)
{
    return 13 + (size + BLOCK_BYTES - 1) / BLOCK_BYTES * 3 + size;
}

/* Write the frame of a plane to `out`, which has room for `stored_frame_bytes(size)`. Returns its length; 0 where the
 * plane is not for this code, and what is in `out` is then of no meaning. */
static size_t
encode_exponents(Scratch *scratch, const uint8_t *plane, size_t size, uint8_t *out)
{
    const uint8_t *begin = out, head[] = {0x28, 0xB5, 0x2F, 0xFD, 0xE0};
    uint64_t wide = size;
    if (size < BLOCK_BYTES) {
        return 0;
    }
    memcpy(out, head, 5);
    memcpy(out + 5, &wide, 8);
    out += 13;
    for (size_t start = 0; start < size; start += BLOCK_BYTES) {
        size_t part = size - start < BLOCK_BYTES ? size - start : BLOCK_BYTES, took = part;
        if (start % (GROUP_BLOCKS * BLOCK_BYTES) == 0) {
            memset(scratch->places, 0, sizeof scratch->places);
            scratch->distinct = scratch->looked_at = 0;
        }
        memcpy(scratch->block, plane + start, part);
        if (part >= CODED_FROM && (took = code_block(scratch, scratch->block, part)) == 0) {
            return 0;
        }
        if (part == BLOCK_BYTES) {
            look_for_repeats(scratch, scratch->block);
        }
        uint32_t is_coded = took < part, last = start + part == size;
        if ((last || (start / BLOCK_BYTES + 1) % GROUP_BLOCKS == 0) && has_repeats(scratch)) {
            return 0;
        }
        took = is_coded ? took : part;
        uint32_t lead = (uint32_t)took << 3 | is_coded << 2 | last;
        memcpy(out, &lead, 3);
        memcpy(out + 3, is_coded ? scratch->coded : scratch->block, took);
        out += 3 + took;
    }
    return (size_t)(out - begin);
}
