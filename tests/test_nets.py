"""Encoders, trunks, decoders and discriminators: sizes, borders, beginnings."""
import pytest
import torch
from grids import Grid, Ring, networks, noise
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from mmcycle.core import nets
from mmcycle.core.moments import SharedMoments
from mmcycle.core.model import CycleModel, generator
from mmcycle.core.settings import Networks, Objective

NORMED = ["resnet", "unet", "light"]
GENERATORS = [*NORMED, "bilateral"]


def translator(kind: str, sensor=None, **changes) -> nets.Generator:
    sensor = sensor or Grid(height=64, width=64)
    torch.manual_seed(0)
    return generator(sensor, sensor, networks(generator=kind, **changes))


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("upsample", ["resize", "transposed"])
@pytest.mark.parametrize("cells", [(2, 2), (3, 5), (7, 2)])
def test_a_translation_has_the_size_of_its_source_and_lies_in_range(kind, upsample, cells):
    height, width = (nets.STRIDE[kind] * n for n in cells)
    y = translator(kind, upsample=upsample)((3 * noise(2, 3, height, width)).clamp(-1, 1))
    assert y.shape == (2, 3, height, width)
    assert y.abs().max() <= 1
    assert y.std() > 0


@pytest.mark.parametrize("kind", NORMED)
def test_the_latent_is_the_sample_divided_by_the_stride(kind):
    latent, *finer = nets.encoder(3, networks(generator=kind))(noise(1, 3, 32, 96))
    stride = nets.STRIDE[kind]
    assert latent.shape == (1, 16, 32 // stride, 96 // stride)
    assert [f.shape[-2] for f in finer] == [32 // stride * 2**n for n in range(1, len(finer) + 1)]


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_batch_is_translated_like_its_members(kind):
    network, x = translator(kind), noise(3, 3, 32, 48)
    torch.testing.assert_close(network(x), torch.cat([network(one[None]) for one in x]), atol=1e-5, rtol=1e-4)


def test_the_reference_resnet_has_the_parameters_that_its_layers_add_up_to():
    network = generator(Grid(height=32, width=32), Grid(height=32, width=32), Networks())
    stem, halvings = 3 * 64 * 49, 9 * (64 * 128 + 128 * 256)
    trunk, doublings, head = 9 * 2 * 9 * 256 * 256, 9 * (256 * 128 + 128 * 64), 64 * 3 * 49 + 3
    total = stem + halvings + trunk + doublings + head
    assert total == 11_372_931                          # the published 11.378 M less the biases that a norm removes
    assert sum(p.numel() for p in network.parameters()) == total


def test_the_reference_discriminator_has_the_parameters_that_its_layers_add_up_to():
    network = nets.discriminator(3, Networks(discriminator_norm="none"))
    expected = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 128 + 256 + 512 + 1
    assert expected == 2_764_737                        # the published 70 x 70 PatchGAN
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("layers, field", [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_one_score_sees_the_field_that_the_settings_promise(layers, field):
    network = nets.discriminator(1, networks(discriminator_layers=layers, discriminator_width=1, discriminator_norm="none"))
    for convolution in network.modules():
        if isinstance(convolution, nn.Conv2d):
            nn.init.ones_(convolution.weight)
    x = torch.ones(1, 1, 2 * field, 2 * field, requires_grad=True)
    scores = network(x)
    scores[0, 0, scores.shape[-2] // 2, scores.shape[-1] // 2].backward()
    seen = x.grad[0, 0] != 0
    assert seen.any(0).sum().item() == seen.any(1).sum().item() == field


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("norm", ["spectral", "instance", "none"])
def test_the_smallest_sample_gives_one_score_and_a_rectangle_gives_a_rectangle(layers, norm):
    least = 3 * 2**layers
    network = nets.discriminator(2, networks(discriminator_layers=layers, discriminator_norm=norm))
    assert network(noise(1, 2, least, least)).shape == (1, 1, 1, 1)
    assert network(noise(2, 2, least, 2 * least)).shape == (2, 1, 1, 4)


def test_going_all_the_way_stays_in_range_and_going_nowhere_is_the_identity():
    x, change = noise(4, 3, 8, 8), noise(4, 3, 8, 8, seed=1)
    assert torch.equal(nets.move(x, torch.zeros_like(x)), x)
    torch.testing.assert_close(nets.move(x, torch.ones_like(x)), torch.ones_like(x))
    torch.testing.assert_close(nets.move(x, -torch.ones_like(x)), -torch.ones_like(x))
    assert nets.move(x, change).abs().max() <= 1 + 1e-6
    assert ((nets.move(x, change) - x) * change >= -1e-6).all()
    assert nets.move(torch.tensor(0.5), torch.tensor(0.5)).item() == pytest.approx(0.75)    # half of the way from 0.5 to 1


def test_a_residual_generator_begins_close_to_its_input():
    x = noise(2, 3, 16, 16)
    plain, residual = translator("resnet", residual=False), translator("resnet", residual=True)
    assert (residual(x) - x).abs().mean() < 0.5 * (plain(x) - x).abs().mean()
    assert residual(x).abs().max() <= 1


def test_a_resize_doubling_has_no_checkerboard_where_its_input_is_flat():
    network = nets._doubling(2, 2, "resize", wraps=False)[:2]
    x = torch.ones(1, 2, 4, 4)
    convolved = network[1][1](network[1][0](network[0](x)))
    assert convolved.std(dim=(-2, -1)).max() < 1e-6


@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.parametrize("upsample", ["resize", "transposed"])
def test_no_generator_has_a_bias_that_a_norm_would_remove(kind, upsample):
    biases = [name for name, _ in translator(kind, upsample=upsample).named_parameters() if name.endswith("bias")]
    assert len(biases) == 1 and biases[0].startswith("decoder.head")


def test_no_instance_normed_discriminator_layer_has_a_bias():
    layers = [layer for layer in nets.discriminator(3, networks(discriminator_norm="instance", discriminator_layers=2))]
    for layer, after in zip(layers, layers[1:]):
        if isinstance(layer, nn.Conv2d):
            assert (layer.bias is None) == isinstance(after, nn.InstanceNorm2d)


@pytest.mark.parametrize("norm", ["spectral", "instance", "none"])
def test_every_parameter_of_a_discriminator_learns(norm):
    network = nets.discriminator(3, networks(discriminator_norm=norm, discriminator_layers=2))
    network(noise(2, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_weights_are_drawn_from_a_narrow_normal_and_biases_are_zero():
    torch.manual_seed(0)
    network = nets.discriminator(3, Networks(discriminator_norm="none"))
    for layer in (layer for layer in network if isinstance(layer, nn.Conv2d)):
        n = layer.weight.numel()
        assert abs(layer.weight.mean().item()) < 5 * 0.02 / n**0.5
        assert layer.weight.std().item() == pytest.approx(0.02, rel=5 / n**0.5)
        assert layer.bias.abs().max() == 0


def test_layers_under_spectral_norm_keep_their_draw_and_their_largest_singular_value_is_one():
    torch.manual_seed(0)
    network = nets.discriminator(3, networks(discriminator_layers=2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    nets.initialised(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for _ in range(60):
        network(noise(1, 3, 16, 16))                    # power iterations
    for layer in (layer for layer in network if isinstance(layer, nn.Conv2d)):
        assert is_parametrized(layer)
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_only_a_discriminator_without_instance_norm_sees_brightness_and_contrast():
    def difference(norm: str) -> float:
        torch.manual_seed(0)
        network = nets.discriminator(1, networks(discriminator_norm=norm, discriminator_layers=2)).eval()
        x = 10 * noise(1, 1, 24, 24)                    # large beside the epsilon of the norm
        bias_free = [p.data.zero_() for name, p in network.named_parameters() if name.endswith("bias")]
        assert bias_free
        scores, brighter = network(x), network(0.25 * x)
        return ((scores - brighter).abs().mean() / scores.abs().mean()).item()

    assert difference("instance") < 0.05 < difference("spectral")


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("upsample", ["resize", "transposed"])
def test_turning_a_ring_turns_its_translation(kind, upsample):
    stride = nets.STRIDE[kind]
    sensor = Ring(channels=2, height=2 * stride, width=6 * stride)
    network, x = translator(kind, sensor, upsample=upsample), noise(1, 2, 2 * stride, 6 * stride)
    for cells in (1, 3):
        torch.testing.assert_close(network(x.roll(cells * stride, -1)), network(x).roll(cells * stride, -1), atol=1e-4, rtol=0)
        for turned, feature in zip(network.encoder(x.roll(cells * stride, -1)), network.encoder(x), strict=True):
            share = cells * feature.shape[-1] // 6
            torch.testing.assert_close(turned, feature.roll(share, -1), atol=1e-4, rtol=0)


def test_turning_a_ring_turns_the_trunk():
    trunk = nets.Trunk(networks(blocks=2), (3, 8), (3, 8), wraps=True)
    z = noise(1, 16, 3, 8)
    torch.testing.assert_close(trunk(z.roll(3, -1)), trunk(z).roll(3, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["spectral", "instance"])
@pytest.mark.parametrize("layers", [1, 2])
def test_turning_a_ring_turns_the_scores(norm, layers):
    network = nets.discriminator(2, networks(discriminator_norm=norm, discriminator_layers=layers), wraps=True).eval()
    x = noise(1, 2, 16, 32)
    scores, by = network(x), 2**layers
    assert scores.shape[-1] == 32 // by                 # one for each column of cells, none missing at the seam
    torch.testing.assert_close(network(x.roll(by, -1)), scores.roll(1, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", GENERATORS)
def test_without_a_ring_the_borders_do_not_meet(kind):
    stride = nets.STRIDE[kind]
    sensor = Grid(channels=2, height=2 * stride, width=4 * stride)
    network, x = translator(kind, sensor), noise(1, 2, 2 * stride, 4 * stride)
    assert (network(x.roll(stride, -1)) - network(x).roll(stride, -1)).abs().max() > 1e-3


def test_the_regrid_carries_a_latent_to_any_grid_and_refuses_another_source():
    regrid = nets.Regrid(16, (2, 8), (4, 4))
    assert regrid(noise(3, 16, 2, 8)).shape == (3, 16, 4, 4)
    with pytest.raises(ValueError, match=r"carries latents of \(2, 8\) to another grid; got \(4, 8\)"):
        regrid(noise(3, 16, 4, 8))


def test_every_cell_of_a_regridded_latent_can_see_every_cell_of_the_source():
    regrid, z = nets.Regrid(16, (2, 3), (3, 2)), noise(1, 16, 2, 3).requires_grad_()
    regrid(z)[0, :, 0, 0].sum().backward()
    assert (z.grad[0].abs().sum(0) > 0).all()


@pytest.mark.parametrize("kind, expected", [("resnet", False), ("unet", True), ("light", True)])
def test_features_pass_beside_the_trunk_only_between_equal_grids(kind, expected):
    chosen = networks(generator=kind)
    assert nets.uses_skips(chosen, (3, 32, 32), (2, 32, 32)) is expected
    assert nets.uses_skips(chosen, (3, 32, 32), (3, 32, 64)) is False


def test_shared_moments_are_those_of_the_first_batch_for_all_that_follow():
    moments = SharedMoments()
    first, second = noise(2, 3, 8, 8) * 3 + 1, noise(1, 3, 4, 4, seed=1)
    mean, variance = first.numpy().mean((0, 2, 3)), first.numpy().var((0, 2, 3))
    for x in (first, second):
        expected = (x.numpy() - mean[:, None, None]) / (variance[:, None, None] + 1e-5) ** 0.5
        torch.testing.assert_close(moments.normalise(x), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_shared_moments_of_one_sample_are_what_instance_norm_does():
    x = noise(1, 3, 8, 8).bfloat16()
    shared = SharedMoments().normalise(x)
    assert shared.dtype == torch.bfloat16
    torch.testing.assert_close(shared.float(), nets.InstanceNorm()(x.float()), atol=0.02, rtol=0.02)


def test_a_sensors_own_networks_keep_the_weights_they_came_with():
    class Trained(Grid):
        def encoder(self, nets_settings):
            own = super().encoder(nets_settings)
            for parameter in own.parameters():
                nn.init.constant_(parameter, 0.5)
            return own

    built = CycleModel(Trained(height=32, width=32), Grid(height=32, width=32), networks(), Objective())
    assert all((parameter == 0.5).all() for parameter in built.gen_ab.encoder.parameters())


@pytest.mark.parametrize("kind", ["resnet", "light", "unet"])
def test_a_decoder_without_skips_is_content_with_the_latent_alone(kind):
    made = networks(generator=kind)
    latent, *finer = nets.encoder(3, made)(noise(1, 3, 32, 32))
    decode = nets.decoder(3, made, skips=False)
    assert torch.equal(decode([latent]), decode([latent, *finer]))
