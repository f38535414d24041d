/* A bcryptprimitives.dll for Wine 8, which has none: see windows in this folder. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(void *, ULONG);

__declspec(dllexport) BOOL WINAPI ProcessPrng(unsigned char *data, SIZE_T size)
{
    while (size) {
        ULONG part = size > 0x10000000 ? 0x10000000 : (ULONG)size;
        if (!SystemFunction036(data, part))
            return FALSE;
        data += part;
        size -= part;
    }
    return TRUE;
}

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, void *reserved)
{
    return TRUE;
}
