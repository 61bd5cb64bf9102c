"""`edgeannot teach detect`: a detector of one's own objects from a few labelled pictures, in seconds and with numpy alone.

The layers of a bundled detector stay as they are (`backbone`); what they say of many views of the pictures (`views`, `examples`) is what
new last layers are fitted on (`bands`, `fit`), which become int8 convolutions in the detector's own file (`stored`, `export`).
A cross-validation on the same features tells how good that is, how far scores are to be believed, and from which on they count (`held_out`,
`calibration`, `teaching`).
"""
