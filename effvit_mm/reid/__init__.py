"""Person re-identification on NumPy, torch and FAISS: network, features, ranking, search, names.

OpenMMLab is not needed: :mod:`effvit_mm.openmm.reid` trains on its runner. Nor is torchreid, which
:mod:`effvit_mm.torchreid` knows.
"""
