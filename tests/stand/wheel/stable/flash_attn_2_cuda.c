/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A library that needs nothing of torch but its stable C interface, and nothing of Python but its own: one for all versions. */
#define Py_LIMITED_API 0x03090000
#include <Python.h>
#include <stdint.h>

extern int32_t aoti_torch_device_type_cpu(void);

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_flash_attn_2_cuda(void) {
  PyObject *self = PyModule_Create(&module);
  if (self != NULL) PyModule_AddIntConstant(self, "CPU", aoti_torch_device_type_cpu());
  return self;
}
