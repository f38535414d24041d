"""Closes the windows of another program as its user does, with Xlib. There is no window manager under Xvfb."""

import ctypes

CLIENT_MESSAGE = 33


class ClientMessage(ctypes.Structure):
    """XClientMessageEvent."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    ]


class Display:
    """A connection to the X server. Xvfb begins anew when its last client has left, and refuses clients meanwhile.
    So this is open all the time."""

    def __init__(self):
        self.x = ctypes.CDLL("libX11.so.6")
        pointer, number = ctypes.c_void_p, ctypes.c_ulong
        self.x.XOpenDisplay.restype = pointer
        self.x.XDefaultRootWindow.argtypes = [pointer]
        self.x.XDefaultRootWindow.restype = number
        self.x.XInternAtom.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int]
        self.x.XInternAtom.restype = number
        self.x.XQueryTree.argtypes = [pointer, number] + [pointer] * 4
        self.x.XFetchName.argtypes = [pointer, number, pointer]
        self.x.XSendEvent.argtypes = [pointer, number, ctypes.c_int, ctypes.c_long, pointer]
        self.x.XSync.argtypes = [pointer, ctypes.c_int]
        # A window may be gone by the time it is asked. Xlib would end this process for that.
        handler = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
        self.ignore = handler(lambda display, error: 0)
        self.x.XSetErrorHandler(self.ignore)
        self.display = self.x.XOpenDisplay(None)
        assert self.display, "there is no X server"

    def close_windows(self):
        """Asks all windows that have a title to close (WM_DELETE_WINDOW). Returns how many there are."""
        windows = self.titled()
        for window in windows:
            message = ClientMessage(
                type=CLIENT_MESSAGE,
                window=window,
                message_type=self.x.XInternAtom(self.display, b"WM_PROTOCOLS", 0),
                format=32,
            )
            message.data[0] = self.x.XInternAtom(self.display, b"WM_DELETE_WINDOW", 0)
            self.x.XSendEvent(self.display, window, 0, 0, ctypes.byref(message))
        self.x.XSync(self.display, 0)
        return len(windows)

    def titled(self):
        root, parent, count = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_uint()
        children, title = ctypes.POINTER(ctypes.c_ulong)(), ctypes.c_char_p()
        out = [ctypes.byref(it) for it in (root, parent, children, count)]
        self.x.XQueryTree(self.display, self.x.XDefaultRootWindow(self.display), *out)
        windows = [children[n] for n in range(count.value)]
        fetch = ctypes.byref(title)
        return [it for it in windows if self.x.XFetchName(self.display, it, fetch)]
