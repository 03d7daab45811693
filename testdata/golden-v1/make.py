"""Makes a golden replica with a real daemon: make.py BAKELITE DIR

DIR gets replica/ and expected, one line a commit: its number, the CRC-32 of the database file as
Python read it from the file and its WAL, and the digest that a restore reports. Run once for each
released format, and never again for that one.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zlib

BAKELITE, DIR = sys.argv[1:]
WORK = os.path.join(DIR, "work")
DB, REPLICA = os.path.join(WORK, "app.db"), os.path.join(DIR, "replica")


def image():
    """The database file with the committed frames of its WAL laid over it."""
    data = bytearray(open(DB, "rb").read())
    wal = open(DB + "-wal", "rb").read()
    size, salts = int.from_bytes(wal[8:12], "big"), wal[16:24]
    pending = {}
    for at in range(32, len(wal) - size - 23, size + 24):
        page, end = (int.from_bytes(wal[at + n : at + n + 4], "big") for n in (0, 4))
        if wal[at + 8 : at + 16] != salts:
            break
        pending[page] = wal[at + 24 : at + 24 + size]
        if end:
            data.extend(bytes(max(0, end * size - len(data))))
            for page, content in pending.items():
                data[(page - 1) * size : page * size] = content
            del data[end * size :]
            pending = {}
    return bytes(data)


def start():
    daemon = subprocess.Popen([BAKELITE, "daemon", DB, REPLICA])
    subprocess.run([BAKELITE, "sync", DB, REPLICA], check=True)
    time.sleep(1)
    subprocess.run([BAKELITE, "sync", DB, REPLICA], check=True)
    return daemon


os.makedirs(WORK)
db = sqlite3.connect(DB, isolation_level=None)
db.executescript(
    "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 20;"
    "CREATE TABLE log (seq INTEGER PRIMARY KEY, note TEXT); INSERT INTO log VALUES (0, 'first');"
    "CREATE TABLE blob (n INTEGER PRIMARY KEY, data BLOB)"
)
images = [image()]


def run(*statements):
    db.execute("BEGIN IMMEDIATE")
    for statement in statements:
        db.execute(statement)
    db.execute("INSERT INTO log VALUES (?, 'commit ' || ?)", (len(images), len(images)))
    db.execute("COMMIT")
    images.append(image())


def many(first):
    for n in range(first, first + 9):
        run(f"INSERT INTO blob VALUES ({n}, randomblob({n % 3 * 1500 + 10}))")
        if n % 4 == 0:
            run(f"UPDATE blob SET data = zeroblob(700) WHERE n = {n - 2}")
            time.sleep(0.4)


daemon = start()
many(100)
run("DELETE FROM blob WHERE n < 107")
db.execute("VACUUM")
images.append(image())
many(200)
time.sleep(1)
daemon.send_signal(signal.SIGKILL)
daemon.wait()
run("INSERT INTO blob VALUES (1000, randomblob(9000))")
daemon = start()
many(300)
run("CREATE INDEX by_note ON log (note)", "DELETE FROM blob WHERE n % 2")
daemon.send_signal(signal.SIGTERM)
assert daemon.wait() == 0
assert images[-1] == image(), "a checkpoint changes nothing"

with open(os.path.join(DIR, "expected"), "w") as expected:
    for commit, content in enumerate(images, 1):
        output = os.path.join(WORK, "restored.db")
        run = [BAKELITE, "--json", "restore", REPLICA, "--output", output, "--force"]
        run += ["--commit", str(commit)]
        report = json.loads(subprocess.run(run, check=True, capture_output=True).stdout)
        assert open(output, "rb").read() == content, f"commit {commit}"
        expected.write(f"{commit} {zlib.crc32(content):08x} {report['digest']}\n")
