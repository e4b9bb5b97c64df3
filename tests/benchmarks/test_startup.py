import pytest

from explorer.benchmarks.startup import StartupTimes, measure_startup, time_start

SERVER = (
    "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
    "class Answer(BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.end_headers(); self.wfile.write(b'ok')\n"
    "HTTPServer(('127.0.0.1', {port}), Answer).serve_forever()"
)


def test_the_ratio_is_of_medians():
    times = StartupTimes(app=(2.0, 9.0, 3.0), empty=(2.0, 1.0, 8.0))
    assert times.ratio == 1.5
    assert times.report()["app_seconds"] == 3.0


def test_a_server_is_timed_until_it_answers():
    assert 0 < time_start(SERVER, ("/", "/config")) < 60


def test_a_server_that_ends_is_reported_with_what_it_said():
    with pytest.raises(RuntimeError, match="no luck"):
        time_start("raise SystemExit('no luck on {port}')", ("/",))


def test_at_least_one_repeat_is_needed():
    with pytest.raises(ValueError, match="repeats is 0: expected at least 1"):
        measure_startup(0)
