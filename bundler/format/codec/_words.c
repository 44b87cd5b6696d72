/* Split words into byte planes and merge them, in one pass over memory, and code planes of exponents: what `planes.py`,
 * `differences.py` and `exponents.py` do with several passes of numpy's. `_word_loops.h`, `_sorted.h` and `_exponents.h` have the
 * loops; here is what Python sees.
 *
 * Rule book:
 *
 * - whatever the arguments, no byte outside them is read or written: the lengths of all buffers are compared before the
 *   first word, and the loops run over those lengths alone. No length, offset or count is read from content;
 * - only functions of the limited API of Python 3.11 (PEP 384), so that one file serves that Python and all later ones;
 * - the GIL is released during the loops; the buffers are held, so that nobody can shorten or free them meanwhile.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_exponents.h"
#include "_sorted.h"
#include "_word_loops.h"

/* What one call works on. `held` counts the buffers to give back, in the order in which they were taken. */

typedef struct {
    Py_ssize_t width;
    Py_ssize_t blocks;
    Py_ssize_t held;
    Py_buffer *buffers; /* words, base if there is one, then the planes' blocks, plane by plane */
    Py_buffer *places;
} Job;

static void
end_job(Job *job)
{
    while (job->held) {
        PyBuffer_Release(&job->buffers[--job->held]);
    }
    PyMem_Free(job->buffers);
    job->buffers = NULL;
}

static int
hold(Job *job, PyObject *object, int flags)
{
    if (PyObject_GetBuffer(object, &job->buffers[job->held], flags) < 0) {
        return -1;
    }
    job->held++;
    return 0;
}

/* The planes are lists, of one length, or buffers where they are sorted, which a plane can only be as a whole. They are
 * looked at again when their buffers are taken: that runs code of the objects, which may change a list. */
static int
measure_planes(Job *job, PyObject *planes, int is_whole)
{
    if (!PyList_Check(planes)) {
        PyErr_SetString(PyExc_TypeError, "expected planes as a list");
        return -1;
    }
    job->width = PyList_Size(planes);
    if (job->width != 2 && job->width != 4) {
        PyErr_Format(PyExc_ValueError, "expected 2 or 4 planes, found %zd", job->width);
        return -1;
    }
    if (is_whole) {
        job->blocks = 1;
        if (job->width != 2) {
            PyErr_Format(PyExc_ValueError, "expected 2 planes of sorted differences, found %zd", job->width);
            return -1;
        }
        return 0;
    }
    job->blocks = -1;
    for (Py_ssize_t plane = 0; plane < job->width; plane++) {
        PyObject *list = PyList_GetItem(planes, plane);
        if (list == NULL) {
            return -1;
        }
        if (!PyList_Check(list)) {
            PyErr_SetString(PyExc_TypeError, "expected planes as lists of buffers");
            return -1;
        }
        Py_ssize_t count = PyList_Size(list);
        if (job->blocks >= 0 && count != job->blocks) {
            PyErr_Format(PyExc_ValueError, "expected %zd blocks in plane %zd as in the first, found %zd",
                         job->blocks, plane, count);
            return -1;
        }
        job->blocks = count;
    }
    return 0;
}

static int
hold_planes(Job *job, PyObject *planes, int is_whole, int flags)
{
    for (Py_ssize_t plane = 0; plane < job->width; plane++) {
        for (Py_ssize_t block = 0; block < job->blocks; block++) {
            PyObject *item = PyList_GetItem(planes, plane);
            if (item == NULL || (!is_whole && (item = PyList_GetItem(item, block)) == NULL)) {
                return -1;
            }
            Py_INCREF(item);
            int failed = hold(job, item, flags);
            Py_DECREF(item);
            if (failed) {
                return -1;
            }
        }
    }
    return 0;
}

static int
check_lengths(const Job *job, int has_base)
{
    Py_ssize_t words = 0;
    for (Py_ssize_t block = 0; block < job->blocks; block++) {
        Py_ssize_t length = job->places[block].len;
        for (Py_ssize_t plane = 1; plane < job->width; plane++) {
            Py_ssize_t found = job->places[plane * job->blocks + block].len;
            if (found != length) {
                PyErr_Format(PyExc_ValueError, "expected %zd bytes in block %zd of plane %zd as in the first, found %zd",
                             length, block, plane, found);
                return -1;
            }
        }
        /* They are memory of this process, counted perhaps more than once: a sum may still not fit. */
        if (length > PY_SSIZE_T_MAX / MOST_PLANES - words) {
            PyErr_SetString(PyExc_ValueError, "the planes are too long");
            return -1;
        }
        words += length;
    }
    if (job->buffers[0].len != words * job->width) {
        PyErr_Format(PyExc_ValueError, "expected %zd bytes of words for planes of %zd, found %zd", words * job->width,
                     words, job->buffers[0].len);
        return -1;
    }
    if (has_base && job->buffers[1].len != job->buffers[0].len) {
        PyErr_Format(PyExc_ValueError, "expected a base of %zd bytes, found %zd", job->buffers[0].len,
                     job->buffers[1].len);
        return -1;
    }
    return 0;
}

/* Take and check all buffers of a call; on failure an exception is set and nothing is held. */
static int
begin_job(Job *job, PyObject *words, PyObject *base, PyObject *planes, int is_whole, int words_flags,
          int planes_flags)
{
    *job = (Job){0};
    if (measure_planes(job, planes, is_whole) < 0) {
        return -1;
    }
    if ((size_t)job->blocks > SIZE_MAX / sizeof(Py_buffer) / MOST_PLANES - 2) {
        PyErr_NoMemory();
        return -1;
    }
    job->buffers = PyMem_Calloc((size_t)(2 + job->width * job->blocks), sizeof(Py_buffer));
    if (job->buffers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    job->places = job->buffers + (base == NULL ? 1 : 2);
    if (hold(job, words, words_flags) < 0 || (base != NULL && hold(job, base, PyBUF_SIMPLE) < 0)
        || hold_planes(job, planes, is_whole, planes_flags) < 0 || check_lengths(job, base != NULL) < 0) {
        end_job(job);
        return -1;
    }
    return 0;
}

/* Run over all blocks; one of `split` and `merge` is given. */
static void
do_job(const Job *job, int has_base, Split *split, Merge *merge)
{
    uint8_t *words = job->buffers[0].buf;
    const uint8_t *base = has_base ? job->buffers[1].buf : NULL;
    Py_ssize_t start = 0;
    for (Py_ssize_t block = 0; block < job->blocks; block++) {
        uint8_t *planes[MOST_PLANES] = {0};
        for (Py_ssize_t plane = 0; plane < job->width; plane++) {
            planes[plane] = job->places[plane * job->blocks + block].buf;
        }
        size_t count = (size_t)job->places[block].len;
        const uint8_t *theirs = has_base ? base + start : NULL;
        if (split != NULL) {
            split(words + start, theirs, planes, count);
        }
        else {
            merge(words + start, theirs, planes, count);
        }
        start += (Py_ssize_t)count * job->width;
    }
}

static PyObject *
run_job(PyObject *words, PyObject *base, PyObject *planes, int is_whole, Split *const *splits, Merge *const *merges)
{
    Job job;
    int words_flags = merges != NULL ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    int planes_flags = splits != NULL ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    if (begin_job(&job, words, base, planes, is_whole, words_flags, planes_flags) < 0) {
        return NULL;
    }
    int wide = job.width == 4;
    Py_BEGIN_ALLOW_THREADS
    do_job(&job, base != NULL, splits != NULL ? splits[wide] : NULL, merges != NULL ? merges[wide] : NULL);
    Py_END_ALLOW_THREADS
    end_job(&job);
    Py_RETURN_NONE;
}

static Split *const SPLIT_PLANES[] = {split_planes2, split_planes4};
static Merge *const MERGE_PLANES[] = {merge_planes2, merge_planes4};
static Split *const SPLIT_DIFFERENCES[] = {split_differences2, split_differences4};
static Merge *const MERGE_DIFFERENCES[] = {merge_differences2, merge_differences4};
static Split *const SPLIT_SORTED[] = {split_sorted2, NULL};
static Merge *const MERGE_SORTED[] = {merge_sorted2, NULL};

static PyObject *
words_split(PyObject *module, PyObject *arguments)
{
    PyObject *raw, *planes;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO:split", &raw, &planes)) {
        return NULL;
    }
    return run_job(raw, NULL, planes, 0, SPLIT_PLANES, NULL);
}

static PyObject *
words_merge(PyObject *module, PyObject *arguments)
{
    PyObject *planes, *out;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO:merge", &planes, &out)) {
        return NULL;
    }
    return run_job(out, NULL, planes, 0, NULL, MERGE_PLANES);
}

static PyObject *
words_split_differences(PyObject *module, PyObject *arguments)
{
    PyObject *raw, *base, *planes;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO:split_differences", &raw, &base, &planes)) {
        return NULL;
    }
    return run_job(raw, base, planes, 0, SPLIT_DIFFERENCES, NULL);
}

static PyObject *
words_merge_differences(PyObject *module, PyObject *arguments)
{
    PyObject *planes, *base, *out;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO:merge_differences", &planes, &base, &out)) {
        return NULL;
    }
    return run_job(out, base, planes, 0, NULL, MERGE_DIFFERENCES);
}

static PyObject *
words_split_sorted(PyObject *module, PyObject *arguments)
{
    PyObject *raw, *base, *planes;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO:split_sorted", &raw, &base, &planes)) {
        return NULL;
    }
    return run_job(raw, base, planes, 1, SPLIT_SORTED, NULL);
}

static PyObject *
words_merge_sorted(PyObject *module, PyObject *arguments)
{
    PyObject *planes, *base, *out;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO:merge_sorted", &planes, &base, &out)) {
        return NULL;
    }
    return run_job(out, base, planes, 1, NULL, MERGE_SORTED);
}

static PyObject *
words_count_equal(PyObject *module, PyObject *arguments)
{
    PyObject *raw, *base;
    Py_buffer words, theirs;
    size_t equal = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO:count_equal", &raw, &base)
        || PyObject_GetBuffer(raw, &words, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(base, &theirs, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&words);
        return NULL;
    }
    int fits = words.len % 2 == 0 && words.len == theirs.len;
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "expected 16-bit words and as many of a base, found %zd and %zd bytes", words.len,
                     theirs.len);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        equal = count_equal2(words.buf, theirs.buf, (size_t)words.len / 2);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&theirs);
    PyBuffer_Release(&words);
    return fits ? PyLong_FromSize_t(equal) : NULL;
}

static PyObject *
words_encode_exponents(PyObject *module, PyObject *arguments)
{
    PyObject *plane, *frame;
    Py_buffer from, to;
    size_t length = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO:encode_exponents", &plane, &frame)
        || PyObject_GetBuffer(plane, &from, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(frame, &to, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&from);
        return NULL;
    }
    size_t expected = stored_frame_bytes((size_t)from.len);
    Scratch *scratch = NULL;
    if ((size_t)to.len != expected) {
        PyErr_Format(PyExc_ValueError, "expected a frame of %zd bytes for a plane of %zd, found %zd",
                     (Py_ssize_t)expected, from.len, to.len);
    }
    else if ((scratch = PyMem_Malloc(sizeof *scratch)) == NULL) {
        PyErr_NoMemory();
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        length = encode_exponents(scratch, from.buf, (size_t)from.len, to.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&to);
    PyBuffer_Release(&from);
    if (scratch == NULL) {
        return NULL;
    }
    PyMem_Free(scratch);
    return PyLong_FromSize_t(length);
}

static PyMethodDef FUNCTIONS[] = {
    {"split", words_split, METH_VARARGS, "split(raw, planes): as bundler.format.codec.planes.split"},
    {"merge", words_merge, METH_VARARGS, "merge(planes, out): as bundler.format.codec.planes.merge"},
    {"split_differences", words_split_differences, METH_VARARGS,
     "split_differences(raw, base, planes): as bundler.format.codec.differences.split"},
    {"merge_differences", words_merge_differences, METH_VARARGS,
     "merge_differences(planes, base, out): as bundler.format.codec.differences.merge"},
    {"split_sorted", words_split_sorted, METH_VARARGS,
     "split_sorted(raw, base, planes): as bundler.format.codec.differences.split_sorted"},
    {"merge_sorted", words_merge_sorted, METH_VARARGS,
     "merge_sorted(planes, base, out): as bundler.format.codec.differences.merge_sorted"},
    {"count_equal", words_count_equal, METH_VARARGS,
     "count_equal(raw, base) -> int: as bundler.format.codec.differences.count_equal"},
    {"encode_exponents", words_encode_exponents, METH_VARARGS,
     "encode_exponents(plane, frame) -> int: as bundler.format.codec.exponents.encode"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_words",
    .m_doc = "Split words into byte planes, merge them, and code planes of exponents.",
    .m_methods = FUNCTIONS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC
PyInit__words(void)
{
    return PyModuleDef_Init(&MODULE);
}
