/* Whether signal() only returns the handler when it is called with SIG_GET, as Windows does. Wine 8 sets it: this
 * prints "set", and Windows "kept". signal-hook, which asks for the old handler with SIG_GET, then calls address 2.
 * The tests of signals in skipped_on_wine end their program for this reason.
 *
 *     x86_64-w64-mingw32-gcc -o signals.exe tests/platforms/signals.c && /usr/lib/wine/wine64 signals.exe
 */
#include <signal.h>
#include <stdio.h>

typedef void (*handler)(int);

static void handle(int signal)
{
    (void)signal;
}

int main(void)
{
    handler get = (handler)2; /* SIG_GET */
    signal(SIGINT, handle);
    signal(SIGINT, get);
    puts(signal(SIGINT, get) == handle ? "kept" : "set");
    return 0;
}
