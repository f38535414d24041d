/* What a socket of Windows reports about a reset. Wine 8 prints "0, error 0" three times. Windows prints
 * "-1, error 10054" (WSAECONNRESET) instead. The tests of resets in skipped_on_wine fail for this reason.
 *
 *     x86_64-w64-mingw32-gcc -o resets.exe tests/platforms/resets.c -lws2_32 && /usr/lib/wine/wine64 resets.exe
 */
#include <stdio.h>
#include <winsock2.h>

static SOCKET listener;
static struct sockaddr_in address;

/* The accepted end of a connection that its other end has reset, after it has sent `data`. */
static SOCKET reset_by_peer(const char *data)
{
    struct linger abort = {1, 0};
    SOCKET client = socket(AF_INET, SOCK_STREAM, 0), server;
    connect(client, (struct sockaddr *)&address, sizeof address);
    server = accept(listener, NULL, NULL);
    send(client, data, strlen(data), 0);
    setsockopt(client, SOL_SOCKET, SO_LINGER, (char *)&abort, sizeof abort);
    closesocket(client);
    Sleep(200);
    return server;
}

static void report(const char *call, int outcome)
{
    printf("%s: %d, error %d\n", call, outcome, outcome < 0 ? WSAGetLastError() : 0);
}

int main(void)
{
    WSADATA data;
    char buffer[10];
    int length = sizeof address;
    SOCKET server;

    WSAStartup(0x202, &data);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener, (struct sockaddr *)&address, length);
    getsockname(listener, (struct sockaddr *)&address, &length);
    listen(listener, 10);

    server = reset_by_peer("");
    report("recv after a reset", recv(server, buffer, sizeof buffer, 0));
    server = reset_by_peer("x");
    recv(server, buffer, sizeof buffer, 0);
    report("recv after a byte and a reset", recv(server, buffer, sizeof buffer, 0));
    server = reset_by_peer("");
    send(server, "x", 1, 0);
    report("recv after a failed send", recv(server, buffer, sizeof buffer, 0));
    return 0;
}
