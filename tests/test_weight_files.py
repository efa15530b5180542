"""Files of weights: safe reading, on disk and from addresses."""

import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save
from weight_files import (
    SMALL,
    assert_same,
    small_network,
)

import effvit_mm
from effvit_mm.errors import CheckpointError
from effvit_mm.openmm.backbones import VisionTransformer
from effvit_mm.weights import get_state_dict, read_checkpoint


@pytest.fixture(scope='module')
def small():
    return small_network()


class Malicious:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    trap, path = tmp_path / 'trap', tmp_path / 'bad.pth'
    path.write_bytes(pickle.dumps({'state_dict': Malicious(trap)}))
    torch.save({'state_dict': Malicious(trap)}, tmp_path / 'bad2.pth')
    trap.unlink(missing_ok=True)
    for file in (path, tmp_path / 'bad2.pth'):
        with pytest.raises(CheckpointError):
            read_checkpoint(file)
        assert not trap.exists()
    with pytest.raises(CheckpointError, match='--trust-checkpoint'):
        read_checkpoint(tmp_path / 'bad2.pth')
    read_checkpoint(tmp_path / 'bad2.pth', trust=True)
    assert trap.exists()


def test_log_history_of_mmengine_is_read_safely(tmp_path):
    from mmengine.logging import MessageHub

    hub = MessageHub('test_weights')
    hub.update_scalar('train/loss', 0.5)
    hub.update_info('epoch', 3)
    torch.save({'message_hub': hub.state_dict(), 'state_dict': {}}, tmp_path / 'a.pth')
    content = read_checkpoint(tmp_path / 'a.pth')
    assert content['message_hub']['log_scalars']['train/loss'].current() == 0.5


@pytest.mark.parametrize('content', [b'', b'no checkpoint', b'PK\x03\x04 cut short'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_unreadable_files_are_named(tmp_path, content, suffix):
    path = tmp_path / f'broken.{suffix}'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'broken.{suffix}'):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match='no such file'):
        read_checkpoint(tmp_path / 'absent.pth')


def test_file_without_weights(tmp_path):
    torch.save({'epoch': 3}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds no weights'):
        get_state_dict(read_checkpoint(tmp_path / 'a.pth'))
    torch.save([1, 2], tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(tmp_path / 'b.pth')


# Addresses ----------------------------------------------------------------------------------------


class Files(BaseHTTPRequestHandler):
    """Answers what the server's ``files`` has for a path, and counts the requests."""

    def do_GET(self):
        self.server.asked.append(self.path)
        content, announced = self.server.files.get(self.path, (None, 0))
        self.send_response(404 if content is None else 200)
        self.send_header('Content-Length', str(announced))
        self.end_headers()
        self.wfile.write(content or b'')

    def log_message(self, *args):
        """Nothing on the console."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    with ThreadingHTTPServer(('127.0.0.1', 0), Files) as served:
        served.files, served.asked = {}, []
        served.address = f'http://127.0.0.1:{served.server_port}'
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def serve(server, path, state):
    content = save(state)
    server.files[path] = (content, len(content))
    return server.address + path


def test_files_of_one_name_at_two_addresses_do_not_mix(server, tmp_path):
    addresses = [
        serve(server, f'/{path}', {'w': torch.tensor([float(i)])})
        for i, path in enumerate(
            ('a/w.safetensors', 'b/w.safetensors', 'a/w.safetensors?v=2', 'a%2Fb%20c/w.safetensors')
        )
    ]
    for _ in range(2):
        for i, address in enumerate(addresses):
            assert read_checkpoint(address)['state_dict']['w'] == i
    assert len(server.asked) == 4  # each once
    files = [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]
    assert len(files) == 4 and all(path.name.endswith('w.safetensors') for path in files)


def test_models_load_from_addresses(server, small):
    address = serve(server, '/small.safetensors', small.state_dict())
    assert_same(effvit_mm.create_model('deit_tiny', None, checkpoint=address, **SMALL), small)
    backbone = VisionTransformer(**SMALL, init_cfg={'type': 'Pretrained', 'checkpoint': address})
    backbone.init_weights()
    assert torch.equal(backbone.norm.weight, small.backbone.norm.weight)
    assert server.asked == ['/small.safetensors']


def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path):
    address = serve(server, '/w.safetensors', {'w': torch.zeros(1000)})
    content, announced = server.files['/w.safetensors']
    server.files['/w.safetensors'] = (content[:100], announced)
    with pytest.raises(CheckpointError, match='cannot be downloaded: cut short, 100 of'):
        read_checkpoint(address)
    assert not [path for path in (tmp_path / 'home').rglob('*') if path.is_file()]
    server.files['/w.safetensors'] = (content, announced)
    assert read_checkpoint(address)['state_dict']['w'].shape == (1000,)


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('{server}/absent.pth', 'absent.pth cannot be downloaded: HTTP Error 404'),
        ('http://127.0.0.1:1/a.pth', 'a.pth cannot be downloaded'),
        ('s3://bucket/a.pth', r's3://bucket/a\.pth: files and http\(s\) addresses'),
        ('file:///etc/passwd', r'files and http\(s\) addresses'),
    ],
)
def test_addresses_that_cannot_be_read(server, address, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(address.format(server=server.address))
