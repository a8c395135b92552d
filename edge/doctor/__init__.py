"""What a machine can do, what is wrong with it and how to mend it: one module per subject.

A subject is a function from a `Machine` to its findings. It reads files below the machine's root and asks
programs through the machine's runner, so that it can be shown another machine than this one; a file or a
program that is not there is something to tell, never an exception.
"""
