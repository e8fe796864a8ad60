"""The pipeline, in the order of the data: images, patches, pseudolabel, embed, select, annotate, train,
instances, metrics. Arrays in, arrays out: nothing here knows the database or the pages.
"""
