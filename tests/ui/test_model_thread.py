import threading

import pytest

from explorer.ui.shell.model_thread import ModelThread


def test_all_work_is_done_in_order_on_one_thread_that_outlives_failures():
    models, order = ModelThread(), []

    def work(number):
        order.append(number)
        return threading.current_thread()

    first = models.submit(lambda: work(1))
    broken = models.submit(lambda: 1 / 0)
    last = models.submit(lambda: work(2))
    assert first.result(timeout=10) is last.result(timeout=10) is not threading.current_thread()
    assert order == [1, 2]
    with pytest.raises(ZeroDivisionError):
        broken.result(timeout=10)
    assert first.result().daemon


def test_work_that_asks_for_work_does_not_wait_for_itself():
    models = ModelThread()
    assert models.do(lambda: models.do(threading.current_thread)) is models.do(threading.current_thread)
    with pytest.raises(ZeroDivisionError):
        models.do(lambda: 1 / 0)
