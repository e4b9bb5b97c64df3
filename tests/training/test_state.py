import torch

from explorer.training.state import finished_steps, restore_state, write_state


def test_loss_scaling_goes_on_where_it_was(tmp_path):
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(network.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(network(torch.full((1, 2), float("inf"))).sum()).backward()
    scaler.step(optimizer)  # infinite gradients: skipped, and the scale is halved
    scaler.update()
    scaler.scale(network(torch.ones(1, 2)).sum()).backward()
    write_state(tmp_path, network, optimizer, average=None, scaler=scaler, done=2)
    restored = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert restore_state(tmp_path, network, optimizer, average=None, scaler=restored) == finished_steps(tmp_path) == 2
    assert restored.state_dict() == scaler.state_dict()
    assert restored.get_scale() == 512.0


def test_a_channels_last_network_goes_on_bit_identically(tmp_path):
    def start():
        torch.manual_seed(0)
        network = torch.nn.Conv2d(5, 6, 3).to(memory_format=torch.channels_last)
        return network, torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)

    def step(network, optimizer, seed):
        batch = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(seed))
        network(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, resumed = start(), start()
    step(*whole, seed=1)
    write_state(tmp_path, *whole, average=None, scaler=None, done=1)
    restore_state(tmp_path, *resumed, average=None, scaler=None)
    for seed in (2, 3):
        step(*whole, seed=seed)
        step(*resumed, seed=seed)
    assert torch.equal(whole[0].weight, resumed[0].weight)
    assert resumed[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_folder_restores_nothing(tmp_path):
    network = torch.nn.Linear(2, 1)
    before = network.weight.clone()
    assert restore_state(tmp_path, network, torch.optim.AdamW(network.parameters()), average=None, scaler=None) == 0
    assert torch.equal(network.weight, before)
