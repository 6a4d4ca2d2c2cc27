"""What steering learns from activations, on numbers worked out by hand."""

import math

import pytest
import torch

from stages.objectives import statistics as stat

SOURCE = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
TARGET = torch.tensor([[4.0, 1.0], [6.0, 1.0]])  # both vary along the first axis alone, by 4 / 3 together
PRECISION = torch.diag(torch.tensor([3 / 8, 3 / 2]))  # 2 (3 diag(4 / 3, 0) + 4 / 3)^-1


def close(found, wanted):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype))


def test_covariance_is_about_each_classs_own_mean_and_its_inverse_exists():
    covariance = stat.pooled_covariance(SOURCE, TARGET)
    close(covariance, [[4 / 3, 0.0], [0.0, 0.0]])
    close(stat.ridge_precision(covariance, 4), PRECISION)
    close(stat.ridge_precision(torch.zeros(2, 2), 4), torch.eye(2))


def test_directions():
    close(stat.prototype_direction(SOURCE, TARGET), [4.0, 1.0])
    turned = stat.prototype_direction(SOURCE, TARGET, "MAHALANOBIS")  # P (4, 1) = (1.5, 1.5), as long as (4, 1)
    close(turned, [math.sqrt(17 / 2)] * 2)
    close(stat.unit_direction(TARGET, SOURCE), torch.tensor([4.0, 1.0]) / math.sqrt(17))
    assert not stat.unit_direction(SOURCE, SOURCE).any()


def test_the_discriminant_is_undecided_half_way_between_the_classes():
    weight, bias = stat.discriminant(SOURCE, TARGET)
    close(weight, [[15 / 8, 3 / 2], [3 / 8, 0.0]])
    close(bias, [math.log(0.5) - (75 / 8 + 3 / 2) / 2, math.log(0.5) - 3 / 16])
    middle = torch.tensor([[3.0, 0.5], [1.0, 0.0], [5.0, 1.0]])
    half, source, target = stat.source_posterior(middle, weight, bias).tolist()
    assert half == pytest.approx(0.5) and source > 0.9 and target == pytest.approx(1 - source)


def test_a_region_holds_its_quantile():
    close(stat.squared_distance(torch.tensor([[3.0, 2.0]]), torch.tensor([1.0, 0.0]), PRECISION), [7.5])
    region = stat.source_region(torch.tensor([[0.0], [2.0], [4.0]]), 1.0)  # 1 / (2 * 4 + 4) of 4, 0 and 4
    close(region["mean"], [2.0])
    close(region["precision"], [[1 / 12]])
    close(region["limit"], 1 / 3)


def test_support_is_made_of_percentiles():
    values = torch.tensor([[0.0], [10.0], [20.0]])
    close(stat.support(values, 0, 100), [[0.0], [20.0]])
    close(stat.support(values, 25, 75), [[5.0], [15.0]])
    assert stat.support(values, None, None).tolist() == [[-math.inf], [math.inf]]


def test_transports_of_a_line_of_two_points_and_of_a_mean():
    source = torch.tensor([[4.0], [0.0], [1.0]])
    line = stat.linear_transport(source, torch.tensor([[1.0], [4.0], [13.0]]))  # 3 h + 1, in another order
    close(torch.cat([line["weight"], line["bias"]]), [3.0, 1.0])
    pair = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [16.0]])
    scaled, moved = stat.gaussian_transport(*pair), stat.mean_transport(*pair)
    close(torch.cat([scaled["weight"], scaled["bias"]]), [3.0, 10.0])
    close(torch.cat([moved["weight"], moved["bias"]]), [1.0, 12.0])
    with pytest.raises(ValueError, match="needs equal samples"):
        stat.linear_transport(source, pair[0])


def test_neurons_that_hardly_vary_are_not_lively():
    assert stat.lively(SOURCE, TARGET).tolist() == [True, False]
