"""Fashion-MNIST, articles of clothing: harder than digits, in the same format.

Reference:
    Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms", 2017. MIT licence.
"""

import pathlib

from robust_mnist.data._source import Download
from robust_mnist.data._streams import content_sha256


# The hashes are of the decompressed files, because every mirror compressed them anew.
FASHION_MNIST = Download(
    "fashion-mnist",
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    hashes=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    hashed=content_sha256,
    # Debian's package dataset-fashion-mnist.
    local=pathlib.Path("/usr/share/datasets/fashion-mnist"),
    about="articles of clothing",
    licence="MIT",
)
