"""Many runs from one command.

A sweep's state is in its folders alone, so it reads the same whether its jobs run on this machine or
on others (submitit, Ray), and a sweep that is started again sees what is done.
"""
