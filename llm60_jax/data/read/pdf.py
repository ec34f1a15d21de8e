def pdf(path,name):
    raise NotImplementedError
