def preprocess_data(x):
    return (2 * x - 1).cuda()
