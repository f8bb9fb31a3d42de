"""Unpaired translation between two domains of sensor recordings, used to make labelled training data.

    file -load-> raw -to_tensor-> x, context -crop-> (C,H,W) -encoder_A-> latent -trunk-> latent -decoder_B-> (C',H',W')
    file <-save- raw <-from_tensor- x', context <----------- whole recording, padded, tiled, blended by Translator
"""
__version__ = "0.1.0"
