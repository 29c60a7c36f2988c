"""Runs a command on a terminal of its own and tells how it left it.

cli-pty.py <JSON>: {"command": [...], "after": text or null, "delay": seconds, "keys": text, "signals": [names], "gap": seconds}
Waits for `after` in the output (or only `delay`), types `keys`, sends `signals`. Prints JSON: status, signal, output, whether
the terminal was raw at that moment, whether its settings are as before, the seconds from then to the end,
and whether it had to be killed.
"""
import json, os, pty, select, signal, sys, termios, time

plan = json.loads(sys.argv[1])
master, slave = pty.openpty()
before = termios.tcgetattr(slave)
started, starting = os.pipe()  # closed by exec
pid = os.fork()
if pid == 0:
    os.setsid()
    import fcntl
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in (0, 1, 2):
        os.dup2(slave, descriptor)
    os.closerange(3, starting)
    os.closerange(starting + 1, 256)
    os.execvp(plan["command"][0], plan["command"])

os.close(starting)
os.read(started, 1)
output = b""


def read(seconds):
    global output
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([master], [], [], min(left, 0.05))[0]:
            output += os.read(master, 65536)
            return
        if ended():
            return


status = None


def ended():
    global status
    if status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            status = code
    return status is not None


end = time.monotonic() + 20
while plan["after"] and plan["after"].encode() not in output and time.monotonic() < end and not ended():
    read(1)
pause = time.monotonic() + plan.get("delay", 0)
while time.monotonic() < pause and not ended():
    read(0.05)
during = termios.tcgetattr(slave)
start = time.monotonic()
if plan.get("keys"):
    os.write(master, plan["keys"].encode())
for name in plan.get("signals", []):
    if not ended():
        os.kill(pid, getattr(signal, name))
    time.sleep(plan.get("gap", 0))
while not ended() and time.monotonic() < start + 20:
    read(0.5)
seconds = time.monotonic() - start
hangs = not ended()
if hangs:
    os.kill(pid, signal.SIGKILL)
    while not ended():
        time.sleep(0.01)
while select.select([master], [], [], 0.1)[0]:  # what it said last, in pieces
    output += os.read(master, 65536)
after = termios.tcgetattr(slave)
print(json.dumps({
    "status": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
    "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
    "output": output.decode("latin-1"),
    "raw": not during[3] & termios.ICANON and not during[3] & termios.ECHO,
    "restored": before == after,
    "seconds": seconds,
    "hangs": hangs,
}))
