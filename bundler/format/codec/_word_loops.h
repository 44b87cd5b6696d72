/* The loops of `_words.c`: words to planes and back, for memory that was looked at before. Nothing of Python's.
 *
 * Plain C11 without a compiler's or a processor's own words: the compiler makes vector instructions of the loops, on the
 * oldest x86-64 and on aarch64 alike. Words lie at any address, hence `memcpy` for each, which costs nothing.
 *
 * The bytes are those of `planes.py` and `differences.py`; FORMAT.md, "Codecs" and "Differences", says what they are.
 */

#ifndef WORD_LOOPS_H
#define WORD_LOOPS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are little-endian in bundles; numpy does the work where a machine's are not"
#endif

enum { MOST_PLANES = 4 };

static inline uint16_t
load2(const uint8_t *at)
{
    uint16_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t
load4(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* "Zigzag": the sign of a difference goes to the lowest bit. `-(x >> n)` on unsigned numbers is all ones or zero. */

static inline uint16_t
zigzag2(uint16_t difference)
{
    return (uint16_t)((uint32_t)difference << 1) ^ (uint16_t)-(difference >> 15);
}

static inline uint16_t
unzigzag2(uint16_t written)
{
    return (uint16_t)(written >> 1) ^ (uint16_t)-(written & 1);
}

static inline uint32_t
zigzag4(uint32_t difference)
{
    return difference << 1 ^ -(difference >> 31);
}

static inline uint32_t
unzigzag4(uint32_t written)
{
    return written >> 1 ^ -(written & 1);
}

/* One block each: `count` words, and a byte of every word in each plane, the top byte's plane first. */

typedef void Split(const uint8_t *words, const uint8_t *base, uint8_t *const *planes, size_t count);
typedef void Merge(uint8_t *words, const uint8_t *base, uint8_t *const *planes, size_t count);

static void
split_planes2(const uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    uint8_t *restrict top = planes[0], *restrict low = planes[1];
    (void)base;
    for (size_t i = 0; i < count; i++) {
        uint16_t word = load2(words + 2 * i);
        top[i] = (uint8_t)(word >> 7);
        low[i] = (uint8_t)(word << 1 | word >> 15);
    }
}

static void
merge_planes2(uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    const uint8_t *restrict top = planes[0], *restrict low = planes[1];
    (void)base;
    for (size_t i = 0; i < count; i++) {
        uint16_t turned = (uint16_t)(top[i] << 8 | low[i]);
        uint16_t word = (uint16_t)(turned >> 1 | (uint32_t)turned << 15);
        memcpy(words + 2 * i, &word, sizeof word);
    }
}

static void
split_planes4(const uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    uint8_t *restrict top = planes[0], *restrict second = planes[1];
    uint8_t *restrict third = planes[2], *restrict low = planes[3];
    (void)base;
    for (size_t i = 0; i < count; i++) {
        uint32_t word = load4(words + 4 * i), turned = word << 1 | word >> 31;
        top[i] = (uint8_t)(turned >> 24);
        second[i] = (uint8_t)(turned >> 16);
        third[i] = (uint8_t)(turned >> 8);
        low[i] = (uint8_t)turned;
    }
}

static inline uint32_t
gather4(uint8_t *const *planes, size_t i)
{
    return (uint32_t)planes[0][i] << 24 | (uint32_t)planes[1][i] << 16 | (uint32_t)planes[2][i] << 8 | planes[3][i];
}

static void
merge_planes4(uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    uint8_t *const these[] = {planes[0], planes[1], planes[2], planes[3]};
    (void)base;
    for (size_t i = 0; i < count; i++) {
        uint32_t turned = gather4(these, i), word = turned >> 1 | turned << 31;
        memcpy(words + 4 * i, &word, sizeof word);
    }
}

static void
split_differences2(const uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    uint8_t *restrict top = planes[0], *restrict low = planes[1];
    for (size_t i = 0; i < count; i++) {
        uint16_t written = zigzag2((uint16_t)(load2(words + 2 * i) - load2(base + 2 * i)));
        top[i] = (uint8_t)(written >> 8);
        low[i] = (uint8_t)written;
    }
}

static void
merge_differences2(uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    const uint8_t *restrict top = planes[0], *restrict low = planes[1];
    for (size_t i = 0; i < count; i++) {
        uint16_t word = (uint16_t)(unzigzag2((uint16_t)(top[i] << 8 | low[i])) + load2(base + 2 * i));
        memcpy(words + 2 * i, &word, sizeof word);
    }
}

static void
split_differences4(const uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    uint8_t *restrict top = planes[0], *restrict second = planes[1];
    uint8_t *restrict third = planes[2], *restrict low = planes[3];
    for (size_t i = 0; i < count; i++) {
        uint32_t written = zigzag4(load4(words + 4 * i) - load4(base + 4 * i));
        top[i] = (uint8_t)(written >> 24);
        second[i] = (uint8_t)(written >> 16);
        third[i] = (uint8_t)(written >> 8);
        low[i] = (uint8_t)written;
    }
}

static void
merge_differences4(uint8_t *restrict words, const uint8_t *base, uint8_t *const *planes, size_t count)
{
    uint8_t *const these[] = {planes[0], planes[1], planes[2], planes[3]};
    for (size_t i = 0; i < count; i++) {
        uint32_t word = unzigzag4(gather4(these, i)) + load4(base + 4 * i);
        memcpy(words + 4 * i, &word, sizeof word);
    }
}

/* How many of `count` 16-bit words are those of `base`. */
static size_t
count_equal2(const uint8_t *words, const uint8_t *base, size_t count)
{
    size_t equal = 0;
    for (size_t i = 0; i < count; i++) {
        equal += load2(words + 2 * i) == load2(base + 2 * i);
    }
    return equal;
}

#endif
