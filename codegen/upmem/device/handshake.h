/* One tasklet waits until another, known by its number, notifies. */
#ifndef QCC_SHIM_HANDSHAKE_H
#define QCC_SHIM_HANDSHAKE_H

#include <stdint.h>

#include "defs.h"

#define EALREADY 114

/* Returns when somebody waits for the caller and was released. */
void handshake_notify(void);
/* 0, or EALREADY where another tasklet waits for `notifier` already. */
int32_t handshake_wait_for(sysname_t notifier);

#endif
