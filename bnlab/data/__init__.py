"""Images come in by one door: found or made once, checked byte by byte, the same in every later run.

`locate` answers *which* images a run will see, and reads as little as it can: the published files in the
caller's folder, then in the user's cache, then (only when allowed) from the internet, and last an embedded
stand-in that says in its description that it is one. `load` then reads those files, checks the published
checksum of the very bytes that it decodes, and hands over read-only arrays.

    datasets    the nouns: what a data set is, where its images come from, the images
    forms       the accepted files with their published checksums
    sources     locate: name -> Source
    download    the one place that talks to the internet, under a deadline
    decode      bytes -> arrays, pure, distrustful
    images      load: Source -> Images
    sequences   images -> sequences of images
    standins    the two embedded sets
    order       which images a step sees
"""

from bnlab.data.datasets import DATASETS, DataError, Dataset, Images, Source
from bnlab.data.images import load
from bnlab.data.sequences import in_sequences
from bnlab.data.sources import locate

__all__ = ["DATASETS", "DataError", "Dataset", "Images", "Source", "in_sequences", "load", "locate"]
