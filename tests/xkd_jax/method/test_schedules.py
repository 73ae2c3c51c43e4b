import numpy as np
import pytest

from xkd_jax.method import schedules


def test_cosine_goes_from_start_to_end_and_stays():
    values = [float(schedules.cosine(step, 0.04, 0.06, 10)) for step in (0, 5, 10, 25)]
    np.testing.assert_allclose(values, [0.04, 0.05, 0.06, 0.06], rtol=1e-6)


def test_linear_has_one_value_an_epoch_from_the_first_to_the_last():
    def value(step):
        return schedules.epochwise_linear(step, 0.09, 0.11, 300, 10.0)

    middle = 0.09 + 0.02 * 15 / 29
    for step, expected in {0: 0.09, 9: 0.09, 150: middle, 290: 0.11, 1000: 0.11}.items():
        assert value(step) == pytest.approx(expected, rel=1e-6)
    values = np.array([value(step) for step in range(400)])
    assert len(set(values)) == 30 and (np.diff(values) >= 0).all()


@pytest.mark.parametrize(("steps", "expected"), [(0, [2, 2]), (10, [1, 2]), (20, [1, 2])])
def test_linear_of_few_epochs(steps, expected):
    values = [schedules.epochwise_linear(step, 1.0, 2.0, steps, 10.0) for step in (0, 10)]
    np.testing.assert_array_equal(values, expected)


def test_cosine_of_no_length_is_its_end():
    assert schedules.cosine(0, 0.04, 0.06, 0) == np.float32(0.06)


def test_ema_momentum_of_the_paper():
    momenta = np.array([schedules.cosine(step, 0.997, 1.0, 100) for step in range(101)])
    expected = 1 - 0.003 * (np.cos(np.pi * np.arange(101) / 100) + 1) / 2
    np.testing.assert_allclose(momenta, expected, rtol=1e-6)


def test_warmup_cosine():
    rates = np.array([schedules.warmup_cosine(step, 1e-4, 30, 800) for step in range(801)])
    np.testing.assert_allclose(rates[:31], 1e-4 * np.arange(31) / 30, rtol=1e-5)
    share = np.arange(771) / 770
    np.testing.assert_allclose(
        rates[30:], 0.5e-4 * (1 + np.cos(np.pi * share)), rtol=1e-4, atol=1e-10
    )


def test_warmup_cosine_to_a_final_value():
    rates = np.array([schedules.warmup_cosine(step, 5e-4, 5, 100, 1e-6) for step in range(101)])
    assert rates[0] == 0 and rates[5] == np.float32(5e-4) and rates[100] == np.float32(1e-6)
    assert (np.diff(rates[5:]) < 0).all()
    constant = [float(schedules.warmup_cosine(step, 1e-4, 0, 9, 1e-4)) for step in range(10)]
    np.testing.assert_array_equal(constant, np.float32(1e-4))


def test_no_warmup_starts_at_the_peak():
    assert schedules.warmup_cosine(0, 1e-4, 0, 10) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"), [(7, 800.0, 7), (0, 2.0, 5), (0, 0.001, 1)]
)
def test_total_steps(steps, epochs, expected):
    assert schedules.total_steps(steps, epochs, steps_per_epoch=2.5) == expected
