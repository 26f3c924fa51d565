"""Is the evidence of each class where it should be? A verdict for each, with a stated error rate.

subject.py        the network under audit, its images and what it answers
maps.py           where its evidence lies: a Grad-CAM of each image
clusters.py       the few ways in which it looks at a class
stability.py      whether the maps move with the images
places.py         whether a class's maps lie elsewhere than the others'
interventions.py  a part of an image pasted into images of other classes
nuisance.py       a property of the whole image set to another class's value
verdict.py        the decision
measure.py        all of it for one network
words.py          a verdict as a sentence
advice.py         what to do about it, as a command
pictures.py, gallery.py, page.py    audit.html
"""

from augcam.audit.measure import Audit, audit

__all__ = ["Audit", "audit"]
