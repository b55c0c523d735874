"""When a run that fails again and again is given up, and when it is not."""

from pipelines.train_board import ProgressBoard, Stop


def test_failures_in_a_row_without_getting_any_further_end_a_run():
    board = ProgressBoard(max_failures=2)
    board.post({"step": 10.0})
    assert board.lost({0: "gone"}) is None
    board.post({"step": 5.0})  # done again, which is not further
    board.post({"step": 10.0})
    assert board.lost({0: "gone"}) is None
    stop = board.lost({1: "out of memory", 0: "connection closed"})
    assert stop is not None
    assert stop.reason == (
        "workers failed 3 times in a row without getting any further; "
        "worker 0: connection closed; worker 1: out of memory"
    )
    assert not stop.is_of_input


def test_a_run_that_gets_on_may_fail_as_often_as_it_likes():
    board = ProgressBoard(max_failures=0)
    assert board.lost({0: "gone"}) is not None
    board = ProgressBoard(max_failures=1)
    for step in range(1, 50):
        assert board.lost({0: "gone"}) is None
        board.post({"step": float(step)})
    assert board.stopped() is None


def test_the_first_reason_stays_and_ends_the_run_at_the_next_failure():
    board = ProgressBoard(max_failures=9)
    board.stop(Stop("the loss is nan", is_of_input=True))
    board.stop(Stop("connection closed", is_of_input=False))
    assert board.stopped() == Stop("the loss is nan", is_of_input=True)
    assert board.lost({0: "gone"}) == board.stopped()


def test_rows_are_taken_once():
    board = ProgressBoard(max_failures=0)
    board.post({"step": 1.0})
    assert board.take() == [{"step": 1.0}]
    assert board.take() == []
