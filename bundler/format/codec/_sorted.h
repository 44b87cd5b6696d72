/* Differences of 16-bit words that are sorted: by the exponent of the base's word, the greatest first, those of one exponent in
 * the order of the words. The bytes are those of `differences.split_sorted`; FORMAT.md, "Differences", says what they are.
 *
 * One pass over the base counts exponents, and so finds where those of each begin. Then words are taken by windows, which a
 * processor keeps near: each is sorted by itself, word by word, and what it has of an exponent goes to the planes as a run,
 * with vector instructions. In a window the words of a lane, a quarter of it, follow one another; the loops take one of each
 * in turn, so that none waits for the place of the one before, which often has the same exponent.
 */

#include "_word_loops.h"

enum { KEYS = 256, LANES = 4, WINDOW = 1 << 13 };

typedef struct {
    size_t place[KEYS];         /* in the planes, of the next difference of an exponent */
    uint32_t run[KEYS];         /* how many a window has */
    uint32_t next[LANES][KEYS]; /* in the window, of the next one of a lane */
    uint16_t words[WINDOW];     /* of a window, sorted */
} Sort;

/* Eight bits behind the sign: the exponent of a bf16 number, and of a fp16 number three bits more. */
static inline size_t
exponent(const uint8_t *base, size_t i)
{
    return load2(base + 2 * i) >> 7 & (KEYS - 1);
}

static inline size_t
window_words(size_t start, size_t total)
{
    return total - start < WINDOW ? total - start : WINDOW;
}

static inline void
count_window(Sort *sort, const uint8_t *base, size_t count)
{
    size_t lane = count / LANES;
    memset(sort->next, 0, sizeof sort->next);
    for (size_t i = 0; i < lane; i++) {
        for (size_t n = 0; n < LANES; n++) {
            sort->next[n][exponent(base, n * lane + i)]++;
        }
    }
    for (size_t i = LANES * lane; i < count; i++) {
        sort->next[LANES - 1][exponent(base, i)]++;
    }
    for (size_t key = 0; key < KEYS; key++) {
        sort->run[key] = 0;
        for (size_t n = 0; n < LANES; n++) {
            sort->run[key] += sort->next[n][key];
        }
    }
}

static inline void
begin_sort(Sort *sort, const uint8_t *base, size_t total)
{
    memset(sort, 0, sizeof *sort);
    for (size_t start = 0; start < total; start += WINDOW) {
        count_window(sort, base + 2 * start, window_words(start, total));
        for (size_t key = 0; key < KEYS; key++) {
            sort->place[key] += sort->run[key];
        }
    }
    for (size_t key = KEYS, start = 0; key-- > 0;) {
        size_t here = sort->place[key];
        sort->place[key] = start;
        start += here;
    }
}

static inline void
begin_window(Sort *sort, const uint8_t *base, size_t count)
{
    count_window(sort, base, count);
    uint32_t start = 0;
    for (size_t key = KEYS; key-- > 0;) {
        for (size_t n = 0; n < LANES && sort->run[key]; n++) {
            uint32_t here = sort->next[n][key];
            sort->next[n][key] = start;
            start += here;
        }
    }
}

/* The base is memory that another thread may write to meanwhile: then there are more words of an exponent than were counted.
 * What is counted is therefore kept inside of the window, and of the planes. */

static inline uint16_t *
take_word(Sort *sort, size_t lane, const uint8_t *base, size_t i)
{
    return &sort->words[sort->next[lane][exponent(base, i)]++ % WINDOW];
}

static inline size_t
take_run(Sort *sort, size_t key, size_t total, size_t *place)
{
    size_t left = total - sort->place[key], length = sort->run[key] < left ? sort->run[key] : left;
    *place = sort->place[key];
    sort->place[key] += length;
    return length;
}

static inline void
split_word(Sort *sort, size_t lane, const uint8_t *words, const uint8_t *base, size_t i)
{
    *take_word(sort, lane, base, i) = (uint16_t)(load2(words + 2 * i) - load2(base + 2 * i));
}

static inline void
merge_word(Sort *sort, size_t lane, uint8_t *words, const uint8_t *base, size_t i)
{
    uint16_t word = (uint16_t)(*take_word(sort, lane, base, i) + load2(base + 2 * i));
    memcpy(words + 2 * i, &word, sizeof word);
}

static inline void
split_run(const uint16_t *restrict words, uint8_t *restrict top, uint8_t *restrict low, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t written = zigzag2(words[i]);
        top[i] = (uint8_t)(written >> 8);
        low[i] = (uint8_t)written;
    }
}

static inline void
merge_run(uint16_t *restrict words, const uint8_t *restrict top, const uint8_t *restrict low, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        words[i] = unzigzag2((uint16_t)(top[i] << 8 | low[i]));
    }
}

static void
split_sorted2(const uint8_t *words, const uint8_t *base, uint8_t *const *planes, size_t total)
{
    Sort sort;
    begin_sort(&sort, base, total);
    for (size_t start = 0; start < total; start += WINDOW) {
        const uint8_t *ours = words + 2 * start, *theirs = base + 2 * start;
        size_t count = window_words(start, total), lane = count / LANES;
        begin_window(&sort, theirs, count);
        for (size_t i = 0; i < lane; i++) {
            for (size_t n = 0; n < LANES; n++) {
                split_word(&sort, n, ours, theirs, n * lane + i);
            }
        }
        for (size_t i = LANES * lane; i < count; i++) {
            split_word(&sort, LANES - 1, ours, theirs, i);
        }
        for (size_t key = KEYS, at = 0, place; key-- > 0; at += sort.run[key]) {
            size_t length = take_run(&sort, key, total, &place);
            split_run(sort.words + at, planes[0] + place, planes[1] + place, length);
        }
    }
}

static void
merge_sorted2(uint8_t *words, const uint8_t *base, uint8_t *const *planes, size_t total)
{
    Sort sort;
    begin_sort(&sort, base, total);
    for (size_t start = 0; start < total; start += WINDOW) {
        uint8_t *ours = words + 2 * start;
        const uint8_t *theirs = base + 2 * start;
        size_t count = window_words(start, total), lane = count / LANES;
        begin_window(&sort, theirs, count);
        for (size_t key = KEYS, at = 0, place; key-- > 0; at += sort.run[key]) {
            size_t length = take_run(&sort, key, total, &place);
            merge_run(sort.words + at, planes[0] + place, planes[1] + place, length);
        }
        for (size_t i = 0; i < lane; i++) {
            for (size_t n = 0; n < LANES; n++) {
                merge_word(&sort, n, ours, theirs, n * lane + i);
            }
        }
        for (size_t i = LANES * lane; i < count; i++) {
            merge_word(&sort, LANES - 1, ours, theirs, i);
        }
    }
}
