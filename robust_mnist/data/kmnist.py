"""Kuzushiji-MNIST, cursive Japanese characters, in the format of MNIST.

Reference:
    Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018. CC BY-SA 4.0.
"""

from robust_mnist.data._source import Download
from robust_mnist.data._streams import file_sha256


# One place offers it, so the hashes are of the compressed files as they lie there.
KMNIST = Download(
    "kmnist",
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    hashes=(
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
    hashed=file_sha256,
    about="cursive Japanese characters",
    licence="CC-BY-SA-4.0",
)
