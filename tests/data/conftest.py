import pytest
import sample_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """name -> (path, number of frames)"""
    return sample_videos.make_all(tmp_path_factory.mktemp("videos"))
